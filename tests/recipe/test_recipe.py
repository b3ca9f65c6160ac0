from pathlib import Path

import pytest

from bllossom.errors import ConfigError
from bllossom.recipe.recipe import Part, check_made, read_recipe


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf8")
        return path

    text = write("a.txt", "text")
    write("vocab.yaml", f"output: x\ntype: bpe\nvocab_size: 300\ntext: [{text}]\n")
    write("merge.yaml", "output: x\nbase: b/c\ndonor: d/e\n")
    return write


def chosen(recipe, part):
    return [step.name for step in read_recipe(recipe, part=part).chosen]


def test_a_step_publishes_under_its_name_and_later_steps_reach_it(write, tmp_path):
    recipe = write(
        "recipe.yaml",
        f"output: {tmp_path}/runs\nsteps:\n"
        "  - {name: one, stage: train-vocab, config: vocab.yaml, set: {vocab_size: 400}}\n"
        "  - {name: two, stage: merge-vocab, config: merge.yaml, set: {base: '${steps.one.output}'}}\n",
    )
    one, two = (step.loaded.config for step in read_recipe(recipe).steps)
    assert (one.output, one.vocab_size) == (tmp_path / "runs/one", 400)
    assert two.base == str(tmp_path / "runs/one")


def test_the_problems_of_all_steps_are_shown_at_once(write, tmp_path):
    recipe = write(
        "recipe.yaml",
        "output: runs\nsteps:\n"
        "  - {name: one, stage: train-vocab, config: vocab.yaml, set: {vocab_sise: 400}}\n"
        "  - {name: two, stage: merge-vocab, config: merge.yaml, set: {base: '${steps.three.output}'}}\n",
    )
    with pytest.raises(ConfigError) as caught:
        read_recipe(recipe)
    first, second = caught.value.problems
    assert first == "step one: the recipe: vocab_sise: unknown key (did you mean vocab_size?)"
    assert second.startswith("step two: the recipe: base: ${steps.three.output}: should be ${env.NAME}")


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("[{name: a, stage: train-vocabs, config: vocab.yaml}]", "there is no stage 'train-vocabs'; the stages are"),
        (
            "[{name: a, stage: train-vocab, config: vocab.yaml}, {name: a, stage: train-vocab, config: vocab.yaml}]",
            "every step needs a name of its own; used twice: a",
        ),
        ("[{name: seed, stage: train-vocab, config: vocab.yaml}]", "seed is a key of the recipe, and cannot name"),
    ],
)
def test_a_wrong_recipe_is_refused(write, steps, told):
    recipe = write("recipe.yaml", f"output: runs\nsteps: {steps}\n")
    with pytest.raises(ConfigError, match=told):
        read_recipe(recipe)


def test_from_and_until_take_step_names(write):
    step = "{name: %s, stage: train-vocab, config: vocab.yaml}"
    recipe = write("recipe.yaml", f"output: runs\nsteps: [{', '.join(step % name for name in 'abc')}]\n")
    assert chosen(recipe, Part("b")) == ["b", "c"]
    assert chosen(recipe, Part(None, "b")) == ["a", "b"]
    with pytest.raises(ConfigError, match="there is no step 'd'; the steps are a, b, c"):
        read_recipe(recipe, part=Part("d"))
    with pytest.raises(ConfigError, match="--from c comes after --until a"):
        read_recipe(recipe, part=Part("c", "a"))


def test_inputs_must_be_there_for_the_steps_that_are_run_alone(write, tmp_path):
    step = "{name: %s, stage: train-vocab, config: vocab.yaml, set: {text: [%s]}}"
    steps = ", ".join(step % (name, tmp_path / f"{name}.txt") for name in "abc")
    recipe = write("recipe.yaml", f"output: runs\nsteps: [{steps}]\n")  # there is a.txt
    assert chosen(recipe, Part(None, "a")) == ["a"]
    with pytest.raises(ConfigError, match=r"no such file or folder: .*b\.txt") as caught:
        read_recipe(recipe, part=Part("b", "b"))
    assert len(caught.value.problems) == 1
    with pytest.raises(ConfigError, match=r"step c: .*vocab_sise: unknown key"):
        read_recipe(recipe, ["c.vocab_sise=500"], Part(None, "a"))


def test_what_a_published_step_did_not_make_is_told_before_the_next_one_begins(write, tmp_path):
    step = "{name: %s, stage: train-vocab, config: vocab.yaml, set: {text: ['%s']}}"
    steps = [("one", tmp_path / "a.txt"), ("two", "${steps.one.output}"), ("three", "${steps.one.output}/el.jsonl")]
    recipe = write("recipe.yaml", f"output: {tmp_path}/runs\nsteps: [{', '.join(step % each for each in steps)}]\n")
    one, *behind = read_recipe(recipe).chosen
    (tmp_path / "runs/one").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"step three reads .*/one/el\.jsonl, which step one did not make"):
        check_made(one, behind)
    (tmp_path / "runs/one/el.jsonl").touch()
    check_made(one, behind)


def test_the_seed_of_a_recipe_reaches_the_stages_that_take_one(write, tmp_path):
    write("expand.yaml", "output: x\nmodel: a/b\ntokenizer: c\n")
    recipe = write(
        "recipe.yaml",
        f"output: {tmp_path}\nseed: 5\nsteps:\n  - {{name: one, stage: expand, config: expand.yaml}}\n",
    )
    assert read_recipe(recipe, allow_missing=True).steps[0].loaded.config.seed == 5
    assert read_recipe(recipe, ["seed=6"], allow_missing=True).steps[0].loaded.config.seed == 6


def test_a_recipe_without_a_seed_leaves_each_stage_its_own(write, tmp_path):
    write("expand.yaml", "output: x\nmodel: a/b\ntokenizer: c\nseed: 7\n")
    recipe = write(
        "recipe.yaml", f"output: {tmp_path}\nsteps:\n  - {{name: one, stage: expand, config: expand.yaml}}\n"
    )
    assert read_recipe(recipe, allow_missing=True).steps[0].loaded.config.seed == 7
    assert read_recipe(recipe, ["seed=0"], allow_missing=True).steps[0].loaded.config.seed == 0


def test_a_steps_keys_are_reached_by_its_name(write, tmp_path):
    step = "{name: one, stage: train-vocab, config: vocab.yaml, set: {vocab_size: 400}}"
    recipe = write("recipe.yaml", f"output: {tmp_path}\nsteps: [{step}]\n")
    typed = ["one.vocab_size=1e3", "one.character_coverage=1.0", "output=elsewhere"]
    (one,) = read_recipe(recipe, typed).steps
    assert (one.loaded.config.vocab_size, one.loaded.config.character_coverage) == (1000, 1.0)
    assert one.loaded.config.output == Path("elsewhere/one")


def test_a_mistyped_step_or_key_is_told(write, tmp_path):
    recipe = write(
        "recipe.yaml", f"output: {tmp_path}\nsteps: [{{name: vocab, stage: train-vocab, config: vocab.yaml}}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_recipe(recipe, ["vocb.vocab_size=500", "sed=1", "vocab_size=2"])
    assert caught.value.problems == [
        "command line: vocb.vocab_size: neither a key of the recipe nor STEP.key (did you mean vocab?)",
        "command line: sed: neither a key of the recipe nor STEP.key (did you mean seed?)",
        "command line: vocab_size: neither a key of the recipe nor STEP.key (did you mean vocab?)",
    ]
    with pytest.raises(ConfigError) as caught:
        read_recipe(recipe, ["vocab.vocab_sise=500"])
    assert caught.value.problems == ["step vocab: command line: vocab_sise: unknown key (did you mean vocab_size?)"]


def test_a_step_that_is_put_elsewhere_is_found_there_by_later_ones(write, tmp_path):
    recipe = write(
        "recipe.yaml",
        f"output: {tmp_path}/runs\nsteps:\n"
        "  - {name: one, stage: train-vocab, config: vocab.yaml}\n"
        "  - {name: two, stage: merge-vocab, config: merge.yaml, set: {base: '${steps.one.output}'}}\n",
    )
    _, two = read_recipe(recipe, [f"one.output={tmp_path}/other"], allow_missing=True).steps
    assert two.loaded.config.base == f"{tmp_path}/other"


def test_a_matrix_repeats_the_steps_that_use_it(write, tmp_path):
    recipe = write(
        "recipe.yaml",
        f"output: {tmp_path}/runs\nmatrix: {{size: [300, 400]}}\nsteps:\n"
        "  - {name: donor, stage: train-vocab, config: vocab.yaml}\n"
        "  - {name: base, stage: train-vocab, config: vocab.yaml, set: {vocab_size: '${matrix.size}'}}\n"
        "  - {name: both, stage: merge-vocab, config: merge.yaml, set: {base: '${steps.base.output}',"
        " donor: '${steps.donor.output}'}}\n",
    )
    planned = read_recipe(recipe)
    assert [step.name for step in planned.steps] == [
        *("donor", "base-size-300", "base-size-400", "both-size-300", "both-size-400")
    ]
    assert [step.loaded.config.vocab_size for step in planned.steps[1:3]] == [300, 400]
    assert planned.steps[4].loaded.config.base == str(tmp_path / "runs/base-size-400")
    assert planned.steps[4].reads == {"base-size-400", "donor"}
    assert chosen(recipe, Part(only=["size=400"])) == ["donor", "base-size-400", "both-size-400"]
    again = write("again.yaml", recipe.read_text().replace("[300, 400]", "[0.5, 0-5]"))
    with pytest.raises(ConfigError, match="two values give the name base-size-0-5"):
        read_recipe(again)
