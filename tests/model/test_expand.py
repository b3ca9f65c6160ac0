import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from bllossom.artifacts import verify
from bllossom.errors import BllossomError, ConfigError
from bllossom.model.checkpoint import fetch
from bllossom.model.expand import ExpandConfig, dry_run, expand
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from tests.fixtures.loopback import Quiet, serving

BASE = 330
ENGLISH = "The baker sells 12 loaves on the market square."


@pytest.fixture
def config(tmp_path: Path, vocabularies: tuple[Path, Path]) -> Callable[..., ExpandConfig]:
    def make(model: Path | str, **keys: object) -> ExpandConfig:
        values = {"model": str(model), "tokenizer": vocabularies[1], "output": tmp_path / "out"} | keys
        return ExpandConfig.model_validate(values)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_model_computes_what_the_base_computes(
    make_model: Callable[..., Path],
    config: Callable[..., ExpandConfig],
    tied: bool,
    shard_size: str,
    dtype: torch.dtype,
) -> None:
    base = make_model(tied=tied, dtype=dtype, shard_size=shard_size)
    cfg = config(base)
    figures = expand(cfg).figures
    before = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    after, told = AutoModelForCausalLM.from_pretrained(cfg.output, dtype=dtype, output_loading_info=True)
    assert not any(told.values())
    assert after.config.vocab_size == figures["rows"] == after.get_input_embeddings().num_embeddings
    assert after.dtype == dtype
    old, new = before.state_dict(), after.state_dict()
    for name, tensor in old.items():
        assert torch.equal(new[name][: len(tensor)], tensor), name
    ids = torch.tensor([[1, *encode_text(load_tokenizer(base), ENGLISH)]])
    with torch.no_grad():
        mine, theirs = after(ids, output_hidden_states=True), before(ids, output_hidden_states=True)
    for one, other in zip(mine.hidden_states, theirs.hidden_states, strict=True):
        assert torch.equal(one, other)
    # In float32 a matrix product may differ in the last bits when the matrix grows.
    difference = (mine.logits[..., :BASE].float() - theirs.logits.float()).norm()
    assert difference <= (1e-6 if dtype == torch.float32 else 4e-3) * theirs.logits.float().norm()


def test_only_the_shards_with_a_matrix_are_written(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(shard_size="30KB")
    cfg = config(base)
    figures = expand(cfg).figures
    names = {path.name for path in base.glob("*.safetensors")}
    assert {path.name for path in cfg.output.glob("*.safetensors")} == names
    linked = {name for name in names if (base / name).samefile(cfg.output / name)}
    matrices = {"model.embed_tokens.weight", "lm_head.weight"}
    assert linked == {name for name in names if not matrices & load_file(base / name).keys()}
    assert figures["shards"] == {"rewritten": 2, "linked": len(names) - 2, "copied": 0}
    assert verify(cfg.output) == []
    index = json.loads((cfg.output / "model.safetensors.index.json").read_text())
    after = weights(cfg.output)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in after.values())
    assert index["metadata"]["total_parameters"] == sum(tensor.numel() for tensor in after.values())
    for tensor, name in index["weight_map"].items():
        assert tensor in load_file(cfg.output / name)


def test_without_links_the_payload_is_the_same(
    tmp_path: Path, make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(shard_size="30KB")
    linked = expand(config(base))
    copied = expand(config(base, link=False, output=tmp_path / "copied"))
    assert copied.figures["shards"]["linked"] == 0
    assert copied.figures["shards"]["copied"] == linked.figures["shards"]["linked"] > 0
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "copied").glob("*.safetensors"))
    assert copied.fingerprint == linked.fingerprint


def test_the_tokenizer_is_the_new_one_and_the_special_ids_stay(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig], vocabularies: tuple[Path, Path]
) -> None:
    base = make_model()
    (base / "added_tokens.json").write_text("{}")  # would contradict the new tokenizer
    (base / "LICENSE.txt").write_text("Community License")
    cfg = config(base)
    expand(cfg)
    assert not (cfg.output / "added_tokens.json").exists()
    assert (cfg.output / "LICENSE.txt").read_text() == "Community License"
    text = "빵집 주인은 대통령을 기다린다."
    assert AutoTokenizer.from_pretrained(cfg.output)(text) == AutoTokenizer.from_pretrained(vocabularies[1])(text)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (base, cfg.output))
    assert {key for key in old if old[key] != new[key]} == {"vocab_size"}
    generation = "generation_config.json"
    assert (cfg.output / generation).read_bytes() == (base / generation).read_bytes()


def test_padding_rows_are_the_mean_and_new_rows_differ(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model()
    cfg = config(base, input_init="random", output_init="subword-mean")
    figures = expand(cfg).figures
    after, end = weights(cfg.output), BASE + figures["new_pieces"]
    assert figures["padding_rows"] > 0
    assert figures["init"] == {
        "model.embed_tokens.weight": "random",
        "lm_head.weight": "subword-mean",
        "padding": "mean",
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        padding, mean = after[name][end:], after[name][:BASE].mean(0)
        assert torch.allclose(padding, mean.expand(len(padding), -1), atol=1e-7)
        assert len(after[name][BASE:end].unique(dim=0)) == end - BASE


def test_a_tokenizer_that_adds_only_padding(
    tmp_path: Path,
    make_model: Callable[..., Path],
    config: Callable[..., ExpandConfig],
    vocabularies: tuple[Path, Path],
) -> None:
    tokenizer = tmp_path / "padded"
    shutil.copytree(vocabularies[0], tokenizer)
    manifest = json.loads((tokenizer / "manifest.json").read_text())
    manifest["figures"] |= {"pieces": BASE, "rows": 384}
    (tokenizer / "manifest.json").write_text(json.dumps(manifest))
    figures = expand(config(make_model(), tokenizer=tokenizer)).figures
    assert (figures["new_pieces"], figures["padding_rows"], figures["rows"]) == (0, 54, 384)


def test_the_bases_own_padding_rows_become_new_rows(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(rows=336)
    before = weights(base)
    before["model.embed_tokens.weight"][BASE:] = 99.0
    save_file(before, base / "model.safetensors", metadata={"format": "pt"})
    cfg = config(base)
    expand(cfg)
    after = weights(cfg.output)["model.embed_tokens.weight"]
    assert torch.equal(after[:BASE], before["model.embed_tokens.weight"][:BASE])
    assert after[BASE:].abs().max() < 1


def test_a_tied_model_that_stores_both_matrices_keeps_them_equal(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(tied=True)
    both = weights(base)
    both["lm_head.weight"] = both["model.embed_tokens.weight"].clone()
    save_file(both, base / "model.safetensors", metadata={"format": "pt"})
    cfg = config(base)
    expand(cfg)
    after = weights(cfg.output)
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])


def test_two_different_matrices_are_two_whatever_the_config_says(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    """transformers does not tie them either: config and files of what is written agree."""
    base = make_model(tied=True)
    both = weights(base)
    both["lm_head.weight"] = both["model.embed_tokens.weight"] + 1
    save_file(both, base / "model.safetensors", metadata={"format": "pt"})
    cfg = config(base, output_init="subword-mean")
    assert expand(cfg).figures["tied"] is False
    assert json.loads((cfg.output / "config.json").read_text())["tie_word_embeddings"] is False
    after = AutoModelForCausalLM.from_pretrained(cfg.output)
    assert torch.equal(after.lm_head.weight[:BASE], both["lm_head.weight"])
    assert torch.equal(after.get_input_embeddings().weight[:BASE], both["model.embed_tokens.weight"])


def test_a_tied_model_begins_with_subword_means(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(tied=True)
    with pytest.raises(ConfigError, match="is tied, one matrix serves both sides and input_init fills it"):
        dry_run(config(base, output_init="random"))
    manifest = expand(config(base))
    assert manifest.figures["init"] == {"model.embed_tokens.weight": "subword-mean", "padding": "mean"}
    assert (manifest.config["input_init"], manifest.config["output_init"]) == ("subword-mean", None)


@pytest.mark.parametrize("untie", [False, True])
def test_two_matrices_begin_with_weighted_subwords(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig], untie: bool
) -> None:
    cfg = config(make_model(tied=untie), untie=untie)
    assert "first values: model.embed_tokens.weight subword-weighted, lm_head.weight subword-weighted" in dry_run(cfg)
    manifest = expand(cfg)
    assert (manifest.config["input_init"], manifest.config["output_init"]) == ("subword-weighted",) * 2
    assert expand(config(Path(cfg.model), untie=untie, input_init="subword-weighted")) == manifest


def test_a_config_that_is_silent_on_ties_is_decided_by_the_files(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(tied=True)
    settings = json.loads((base / "config.json").read_text())
    del settings["tie_word_embeddings"]
    settings["model_type"] = "nobody-knows"
    (base / "config.json").write_text(json.dumps(settings))
    assert expand(config(base)).figures["tied"] is True


def test_a_wrapper_around_a_language_model_is_refused(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model()
    settings = json.loads((base / "config.json").read_text())
    inner = {"vocab_size": settings.pop("vocab_size")}
    wrapper = settings | {"text_config": inner, "architectures": ["LlavaForConditionalGeneration"]}
    (base / "config.json").write_text(json.dumps(wrapper))
    with pytest.raises(BllossomError, match=r"is LlavaForConditionalGeneration, which wraps .*name a text-only model"):
        expand(config(base))


@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
def test_an_untied_model_gets_an_output_matrix_of_its_own(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig], shard_size: str
) -> None:
    base = make_model(tied=True, shard_size=shard_size)
    cfg = config(base, untie=True, input_init="subword-mean", output_init="subword-first")
    expand(cfg)
    before, after = weights(base)["model.embed_tokens.weight"], weights(cfg.output)
    inputs, outputs = after["model.embed_tokens.weight"], after["lm_head.weight"]
    assert torch.equal(inputs[:BASE], before)
    assert torch.equal(outputs[:BASE], before)
    assert not torch.equal(inputs[BASE:], outputs[BASE:])
    if (cfg.output / "model.safetensors.index.json").is_file():
        told = json.loads((cfg.output / "model.safetensors.index.json").read_text())["metadata"]
        assert told["total_size"] == sum(tensor.nbytes for tensor in after.values())
        assert told["total_parameters"] == sum(tensor.numel() for tensor in after.values())
    loaded = AutoModelForCausalLM.from_pretrained(cfg.output)
    assert loaded.config.tie_word_embeddings is False
    assert loaded.lm_head.weight.data_ptr() != loaded.model.embed_tokens.weight.data_ptr()
    assert torch.equal(loaded.lm_head.weight.data, outputs)


def test_keys_without_a_meaning_for_the_model_are_refused(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    with pytest.raises(
        ConfigError, match=r"is tied, one matrix serves both sides .*; take output_init out, or set untie"
    ):
        expand(config(make_model(tied=True), output_init="random"))
    with pytest.raises(ConfigError, match="is not tied, it has two matrices already; take untie out"):
        expand(config(make_model(tied=False), untie=True))


def test_dtype_converts_every_weight(make_model: Callable[..., Path], config: Callable[..., ExpandConfig]) -> None:
    base = make_model(shard_size="30KB")
    cfg = config(base, dtype="bfloat16")
    expand(cfg)
    before, after = weights(base), weights(cfg.output)
    for name, tensor in before.items():
        assert torch.equal(after[name][: len(tensor)], tensor.bfloat16()), name
    assert AutoModelForCausalLM.from_pretrained(cfg.output).dtype == torch.bfloat16


def test_a_dtype_that_the_base_has_already_rewrites_nothing_more(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(dtype=torch.bfloat16, shard_size="15KB")
    shards = expand(config(base, dtype="bfloat16")).figures["shards"]
    assert (shards["rewritten"], shards["copied"]) == (2, 0)
    assert shards["linked"] > 2


def test_the_base_carries_its_template_its_licence_and_its_code(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model()
    (base / "chat_template.jinja").write_text("{{ messages }}")
    (base / "modeling_own.py").write_text("class Own: ...")
    (base / "NOTICE.txt").write_text("Notice")
    cfg = config(base)
    expand(cfg)
    assert (cfg.output / "modeling_own.py").read_text() == "class Own: ..."
    assert (cfg.output / "NOTICE.txt").read_text() == "Notice"
    assert (cfg.output / "chat_template.jinja").read_text() == "{{ messages }}"
    assert json.loads((cfg.output / "tokenizer_config.json").read_text())["chat_template"] == "{{ messages }}"
    assert AutoTokenizer.from_pretrained(cfg.output).chat_template == "{{ messages }}"


def test_same_seed_same_bytes_and_what_a_kill_left_is_made_anew(
    tmp_path: Path, make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(shard_size="30KB")
    first = expand(config(base))
    shutil.rmtree(tmp_path / "out")
    partial = tmp_path / f"out.partial-{first.id}"
    partial.mkdir()
    for path in base.glob("*.safetensors"):
        (partial / path.name).write_bytes(path.read_bytes()[:1000])
    (partial / "tokenizer.json").write_text("half")
    second = expand(config(base))
    assert second.fingerprint == first.fingerprint
    assert verify(tmp_path / "out") == []
    drawn = [config(base, input_init="random", seed=seed, output=tmp_path / f"{seed}") for seed in (0, 1)]
    assert expand(drawn[0]).fingerprint != expand(drawn[1]).fingerprint


@pytest.mark.real_data
def test_the_real_vocabulary(
    tmp_path: Path, real_vocabularies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shape = LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=32000
    )
    LlamaForCausalLM(shape).bfloat16().save_pretrained(base)
    shutil.copyfile(real_vocabularies[0] / "tokenizer.model", base / "tokenizer.model")  # as Llama 2 itself comes
    output = tmp_path / "out"
    folders = {"model": str(base), "tokenizer": real_vocabularies[1]}
    expand(ExpandConfig(**folders, output=output, input_init="subword-mean", output_init="subword-first"))
    after = weights(output)
    assert {len(after[name]) for name in ("model.embed_tokens.weight", "lm_head.weight")} == {39_488}
    assert len(after["model.embed_tokens.weight"][32_000:39_478].unique(dim=0)) == 7_478
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "output: the base's id 29871 begins 62% of the new pieces, and subword-first gives all of them its row" in said
    )
    expand(ExpandConfig(**folders, output=tmp_path / "weighted"))
    begun = len(weights(tmp_path / "weighted")["model.embed_tokens.weight"][32_000:39_478].unique(dim=0))
    told = re.search(r"([\d,]+) of 7,478 begin as another one does", " ".join(capsys.readouterr().err.split()))
    assert told is not None
    assert begun == 7_478 - int(told[1].replace(",", ""))


def test_dry_run_says_what_would_be_written(
    tmp_path: Path, make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(shard_size="30KB")
    lines = dry_run(config(base))
    assert lines[0].startswith("330 pieces + ")
    assert any(line.endswith("hard links, where the file system allows it") for line in lines)
    assert dry_run(config("meta-llama/Llama-2-13b-hf")) == dry_run(config(base, tokenizer=tmp_path / "not-yet"))
    assert not (tmp_path / "out").exists()


def test_bad_models_are_refused_with_what_to_do(
    tmp_path: Path, make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model(shard_size="30KB")
    shard = sorted(base.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(BllossomError, match=rf"{shard.name} .*cut short or damaged; download or copy it again"):
        expand(config(base))
    shard.unlink()
    with pytest.raises(BllossomError, match=rf"{shard.name} is missing; download or copy it again"):
        expand(config(base))
    save_file({"other": torch.ones(2)}, shard)
    with pytest.raises(BllossomError, match=rf"{shard.name} lacks .*index.json says it holds; download both again"):
        expand(config(base))
    for path in base.glob("model*"):
        path.unlink()
    (base / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BllossomError, match=r"only pytorch_model.*save_pretrained"):
        expand(config(base))
    with pytest.raises(BllossomError, match=r"there is no folder .*nowhere; name a model's folder"):
        expand(config(tmp_path / "nowhere"))
    assert list(tmp_path.glob("out*")) == []


def test_models_without_the_two_matrices_are_refused(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    base = make_model()
    whole = weights(base)
    missing = {name: tensor for name, tensor in whole.items() if name != "lm_head.weight"}
    save_file(missing, base / "model.safetensors")
    with pytest.raises(BllossomError, match=r"LlamaForCausalLM.*found 0 × lm_head.weight.*choose a Llama-like"):
        expand(config(base))
    save_file(whole | {"lm_head.weight": whole["lm_head.weight"].to(torch.int8)}, base / "model.safetensors")
    with pytest.raises(BllossomError, match=r"lm_head.weight is I8 .*expand the model before it is quantised"):
        expand(config(base))


def test_row_counts_that_do_not_fit_are_refused(
    make_model: Callable[..., Path], config: Callable[..., ExpandConfig]
) -> None:
    with pytest.raises(
        BllossomError, match=r"has [345][0-9]{2} rows, the model 2,048: none may be lost; make it again with pad_to"
    ):
        expand(config(make_model(rows=2048)))
    with pytest.raises(BllossomError, match=r"its tokenizer has 330 pieces, .* only 300 rows; put the tokenizer"):
        expand(config(make_model(rows=300)))
    base = make_model()
    (base / "config.json").write_text((base / "config.json").read_text().replace(": 330", ": 331"))
    with pytest.raises(BllossomError, match=r"has 330 rows, config.json's vocab_size is 331; correct"):
        expand(config(base))


def test_an_added_token_above_the_matrix_is_named(
    make_model: Callable[..., Path],
    config: Callable[..., ExpandConfig],
    vocabularies: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    """As the text-only Gemma 3 has it: <image_soft_token> stands behind the last row."""
    base, donor = make_model(), str(vocabularies[0].parent / "ko")
    whole = (base / "tokenizer.json").read_bytes()
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    for token, told in (
        ("<image_soft_token>", r"adds '<image_soft_token>' \(id 330\), and .* has 330 rows, none for that: .*"),
        ("<audio>", r"adds 2 tokens, '<image_soft_token>' \(id 330\), '<audio>' \(id 331\), and .* 330 rows"),
    ):
        tokenizer.add_special_tokens([token])
        tokenizer.save(str(base / "tokenizer.json"))
        merge_vocab(MergeVocabConfig(base=str(base), donor=donor, output=tmp_path / token))
        with pytest.raises(BllossomError, match=f"{told}.*; take it out of the tokenizer's"):
            expand(config(base, tokenizer=tmp_path / token))
    (base / "tokenizer.json").write_bytes(whole)
    merge_vocab(MergeVocabConfig(base=str(base), donor=donor, output=tmp_path / "again"))
    assert expand(config(base, tokenizer=tmp_path / "again")).figures["new_pieces"] > 0


def test_a_disk_without_room_is_met_before_writing(
    tmp_path: Path,
    make_model: Callable[..., Path],
    config: Callable[..., ExpandConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = make_model()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(BllossomError, match=r"has 0 B free, the expanded model needs \S+ MB; free some room"):
        expand(config(base))
    assert [path for path in tmp_path.rglob("*") if "out" in path.name and path.is_file()] == []


class Hub(Quiet, BaseHTTPRequestHandler):
    """Answers as the hub does for a gated model and for one that is not there."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def hub() -> Iterator[str]:
    with serving(Hub) as address:
        yield address


def test_hub_ids_that_are_gated_unknown_or_unreachable(tmp_path: Path, hub: str) -> None:
    program = """
import sys
from bllossom.model.checkpoint import fetch
for name in sys.argv[1:]:
    try:
        fetch(name)
    except Exception as error:
        print(error)
"""
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program, "owner/gated", "owner/nothing"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    gated, unknown = done.stdout.splitlines()
    assert "owner/gated is gated: accept its licence at https://huggingface.co/owner/gated, then run hf auth" in gated
    assert "the hub has no owner/nothing" in unknown
    # The tests' own process is offline.
    with pytest.raises(
        BllossomError, match=r"owner/away cannot be fetched .*download it elsewhere and name its folder"
    ):
        fetch("owner/away")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("step", ["expand", "expand, normal"])
def test_a_13b_shape_takes_little_memory(tmp_path: Path, real_vocabularies: tuple[Path, Path], step: str) -> None:
    script = Path(__file__).parents[2] / "scripts/bench_expand.py"
    make = """
import sys
from pathlib import Path
from bench_expand import make_checkpoint
make_checkpoint(Path(sys.argv[1]), 40, values=False)
"""
    environment = os.environ | {"PYTHONPATH": str(script.parent)}
    subprocess.run([sys.executable, "-c", make, str(tmp_path / "base")], env=environment, check=True)
    shutil.copytree(real_vocabularies[1], tmp_path / "vocab")
    command = [sys.executable, str(script), "--step", step, "--base", "base", "--work", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout.splitlines()[-1])["peak_rss_gb"] < 2
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        with safe_open(tmp_path / "out" / index["weight_map"][name], "pt") as file:
            assert file.get_slice(name).get_shape() == [39_488, 5120]
            assert not file.get_slice(name)[32_000:].isnan().any()
    shutil.rmtree(tmp_path / "out")
