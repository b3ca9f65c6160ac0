"""The recipe of the real run, with a tiny model in SmolLM2's place, and the page that is made of it."""

import json
from pathlib import Path

import pytest
import smollm2_results
import zstandard

from bllossom.recipe.recipe import read_recipe, run_steps
from tests.fixtures.vocabularies import write_small_base

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for m in messages %}{{ '<|begin|>' + m.role + '\\n' + m.content + '<|end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|>assistant\\n' }}{% endif %}"
)


@pytest.fixture
def here(
    byte_level_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """What the recipe reads, in small: a base, a corpus, a donor, instructions."""
    write_small_base(tmp_path / "base", byte_level_base, rows=602)
    (tmp_path / "base/chat_template.jinja").write_text(TEMPLATE, encoding="utf8")
    shared = tmp_path / "shared"
    for language, path in texts.items():
        lines = path.read_text(encoding="utf8").splitlines()[:600]
        packed = zstandard.compress("".join(json.dumps({"text": line}) + "\n" for line in lines).encode())
        (shared / f"corpus/{language}").mkdir(parents=True)
        (shared / f"corpus/{language}/a.jsonl.zst").write_bytes(packed)
    (shared / "tokenizers").mkdir()
    (shared / "tokenizers/kobert").symlink_to(small_donor)
    (shared / "instructions").mkdir()
    record = {"instruction": "say", "input": "", "output": "the river ran", "history": []}
    (shared / "instructions/lima_en_train.json").write_text(json.dumps([record] * 40))
    (shared / "benchmarks").mkdir()
    monkeypatch.setenv("SMOLLM2", str(tmp_path / "base"))
    monkeypatch.setenv("BLLOSSOM_SHARED", str(shared))
    monkeypatch.chdir(ROOT)
    return tmp_path


@pytest.mark.slow
def test_the_recipe_runs_and_its_page_shows_what_came_out(
    here: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = here / "run"
    arms = ("adapted", "same-minutes", "same-bytes")
    evals = [f"eval-{name}" for name in ("base", "expanded", "adapted", "tuned", "same-minutes", "same-bytes")]
    changes = [f"output={output}", "same-minutes.steps=6", "answers.max_tokens=4"]
    for arm in arms:
        changes += [f"{arm}.block_size=32", f"{arm}.global_batch=128", f"{arm}.evaluate_every=2"]
    changes += ["tokens.holdout=0.02", "old-tokens.holdout=0.02"]
    changes += ["adapted.bytes_total=3000", "same-bytes.bytes_total=3000"]
    changes += [f"{name}.tasks=[]" for name in evals]
    changes += [f"{name}.max_tokens=64" for name in ("tuned", "same-minutes-tuned", "same-bytes-tuned")]
    changes += [f"vocab.donor=[{here}/shared/tokenizers/kobert, {{text: [{here}/shared/corpus/ko], pieces: 60}}]"]
    run_steps(read_recipe(ROOT / "configs/smollm2/recipe.yaml", changes).steps)

    monkeypatch.setattr(
        "sys.argv", ["smollm2_results.py", str(output), "--results", str(here / "page"), "--note", "Tiny."]
    )
    smollm2_results.main()
    page, collected = (here / "page.md").read_text(), json.loads((here / "page.json").read_text())
    assert "60 new pieces behind SmolLM2" in page
    assert "Tiny." in page
    bits = {name: found["heldout"]["ko"]["bits_per_byte"] for name, found in collected["evaluations"].items()}
    assert f"{bits['adapted']:.3f} ±" in page
    for arm in arms:
        steps = collected["training"][arm]["tokens"] // 128
        assert len(collected["curves"][arm]["ko"]) == steps // 2 + steps % 2
        assert f"| {collected['curves'][arm]['ko'][-1][1]:.3f} |" in page
    # As much text in the base's own pieces takes more tokens.
    assert collected["training"]["same-bytes"]["tokens"] > 1.5 * collected["training"]["adapted"]["tokens"]
    assert page.count("- tuned: ") == 5
    assert (here / "page.svg").read_text().count("<polyline") == 2 * len(arms)
