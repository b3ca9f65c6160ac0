"""The eval stage: tasks through lm-eval, and bits per byte of held-out text, beside what the best constant answer gets.

    results.json        as lm-eval writes it, less what differs from run to run; under "bllossom" the manifest's figures
    samples/TASK.jsonl  each document: choices, log-likelihoods, prediction, right or not, as lm-eval logs samples
    samples/heldout_LANGUAGE.jsonl    each document: bits, bytes, tokens
    manifest            tasks: {name: {metric: {value, stderr, floor, chance, at_floor}, rows, score, …}}, not_run,
                        averages, bits_per_byte: {language: x}, and what they depend on: encoding, text_start, …

A floor is the score of the best constant answer on the very rows that were scored. What is scored is kept task by task
in the partial folder: after a kill the same command goes on with the first that is missing.
"""

import logging
import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputPath, Source, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.heldout import read_documents
from bllossom.evaluation.results import gather, results_json, table
from bllossom.evaluation.run import DONE, Run
from bllossom.evaluation.scoring.models import load_scorer
from bllossom.evaluation.tasks.build import Ready, limits, prepare
from bllossom.evaluation.tasks.data import evaluated_split, find_files, read_split, shots_split
from bllossom.evaluation.tasks.definitions import Chosen, choose
from bllossom.hub import is_hub_id, pin
from bllossom.tokenizer.start import told

MESSAGES = 8  # of tasks without data that are told one by one
SETTINGS = {"encoding", "chat_template", "num_fewshot", "limit", "seed"}


class EvalConfig(StageConfig):
    """What to score, on what."""

    execution_keys: ClassVar[frozenset[str]] = frozenset({"batch_tokens"})

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    tasks: Annotated[
        list[str],
        Field(
            description="tasks and groups of ours (table6, english) or lm-eval's, or folders of task YAMLs; "
            "[] for bits per byte alone"
        ),
    ] = []
    data: Annotated[
        InputPath | None, Field(description="folder with the tasks' rows (tasks/data.py); the hub if left out")
    ] = None
    limit: Annotated[
        int | None, Field(gt=0, description="score the first rows of each task only; of a group with one score, in all")
    ] = None
    num_fewshot: Annotated[
        int | None, Field(ge=0, description="solved examples in front of each question; left out: as each task says")
    ] = None
    encoding: Annotated[
        Literal["lm-eval", "paper"],
        Field(
            description="context and answer encoded as one text, with BOS if the tokenizer adds it; or apart, without"
        ),
    ] = "lm-eval"
    chat_template: Annotated[bool, Field(description="put questions into the model's own chat form")] = False
    heldout: Annotated[
        dict[str, InputPath], Field(description="text by language, for bits per byte: a file or a folder of any format")
    ] = {}
    batch_tokens: Annotated[
        int | None,
        Field(gt=0, description="tokens in one pass, with padding; left out: 1,024 on a CPU, 16,384 on a GPU"),
    ] = None
    seed: Annotated[int, Field(description="draws few-shot examples and bootstrap samples")] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: the GPU where there is one")] = "auto"

    @model_validator(mode="after")
    def _something_to_do(self) -> "EvalConfig":
        if not self.tasks and not self.heldout:
            raise ValueError("nothing to score: name tasks, heldout text, or both")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError("tasks: one of them stands twice; name each once")
        return self


def evaluate(config: EvalConfig, *, force: bool = False) -> Manifest:
    """Score `config.model` and publish results.json and samples.

    Raises:
        BllossomError: a task is unknown, data or model are missing or of another shape than the tasks need.
    """
    config = config.model_copy(update={"model": pin(config.model)})
    chosen = _choose(config)
    manifest = publish(
        config,
        stage="eval",
        inputs=_inputs(config, chosen),
        build=lambda folder: _build(config, chosen, folder),
        force=force,
    )
    for line in table(manifest.figures):
        say(line)
    return manifest


def dry_run(config: EvalConfig) -> list[str]:
    """What would be scored, and on how many rows; checks the data that are here."""
    chosen = _choose(config)
    told_lines, sizes = [], {}
    here = config.data is not None and config.data.exists()
    for name, definition in chosen.tasks.items():
        split = evaluated_split(definition.config)
        if config.data is not None and here and find_files(definition, split, config.data):
            sizes[name] = len(read_split(definition, split, config.data).rows)
    counts = limits(sizes, chosen, config.limit)
    for name in chosen.shown:
        known = [leaf for leaf in chosen.leaves(name) if leaf in sizes]
        if known:
            rows = f"{sum(counts[leaf] for leaf in known):,} of {sum(sizes[leaf] for leaf in known):,} rows"
            told_lines.append(f"{name}: {rows} of {config.data}")
        elif config.data is not None and not here:
            told_lines.append(f"{name}: rows from {config.data}, not here yet")
        else:
            told_lines.append(f"{name}: rows from the hub")
    if config.tasks:
        shots = "each task's own" if config.num_fewshot is None else config.num_fewshot
        told_lines.append(f"shots: {shots}; encoding: {config.encoding}")
    for language, path in config.heldout.items():
        told_lines.append(f"bits per byte, {language}: {path}{'' if path.exists() else ' (not here yet)'}")
    return told_lines


def _choose(config: EvalConfig) -> Chosen:
    if not config.tasks:
        return Chosen()
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise BllossomError("tasks need lm-evaluation-harness: pip install 'bllossom[eval]'") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every default it takes
    return choose(config.tasks)


def _inputs(config: EvalConfig, chosen: Chosen) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {f"heldout.{language}": path for language, path in config.heldout.items()}
    inputs |= {f"tasks.{Path(name).name}": Path(name) for name in config.tasks if Path(name).is_dir()}
    if is_hub_id(config.model) or Path(config.model).exists():  # else told where it is loaded, behind the data's faults
        inputs["model"] = config.model
    if config.data is None:
        return inputs
    for name, definition in chosen.tasks.items():
        uses = {"": evaluated_split(definition.config)}
        if config.num_fewshot or definition.config.get("num_fewshot"):
            uses[".shots"] = shots_split(definition.config)
        for use, split in uses.items():
            for number, file in enumerate(find_files(definition, split, config.data)):
                inputs[f"data.{name}{use}{f'.{number}' if number else ''}"] = file
    return inputs


def _build(config: EvalConfig, chosen: Chosen, folder: Path) -> dict[str, Any]:
    # Everything that can be wrong with the data is found before a model is loaded.
    documents = {language: read_documents(str(path)) for language, path in config.heldout.items()}
    tasks, missing = prepare(chosen, config.data, num_fewshot=config.num_fewshot, limit=config.limit, seed=config.seed)
    if not tasks and not documents:
        raise BllossomError("\n".join(list(missing.values())[:MESSAGES]))
    for why in list(missing.values())[:MESSAGES]:
        say(f"not run: {why}")
    measured, asked, figures = _score(config, tasks, documents, folder)
    figures |= gather(chosen, asked, missing)
    figures["bits_per_byte"] = {language: held["bits_per_byte"] for language, held in measured.items()}
    figures["heldout"] = measured
    settings = config.model_dump(mode="json", include=SETTINGS)
    (folder / "results.json").write_text(results_json(asked, chosen, figures, settings), encoding="utf8")
    shutil.rmtree(folder / DONE)
    return figures | settings


def _score(
    config: EvalConfig, tasks: dict[str, Ready], documents: dict[str, list[str]], folder: Path
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Held-out figures by language, each task's results, and what was counted on the way."""
    scorer, tokenizer = load_scorer(config.model, config.device, config.batch_tokens)
    if config.chat_template and tokenizer.chat_template is None:
        raise BllossomError(f"{config.model}: its tokenizer has no chat template; leave chat_template out")
    run = Run(folder, scorer, tokenizer, config.encoding, config.chat_template, config.seed)
    measured, asked = run.score(tasks, documents)
    counts = {name: sum(found["counts"][name] for found in asked.values()) for name in ("truncated", "chat_specials")}
    if counts["truncated"]:
        say(f"{counts['truncated']:,} requests: the beginning was cut to fit the model's window")
    if counts["chat_specials"]:
        say(f"{counts['chat_specials']:,} messages hold a special token's text, which became that token")
    return measured, asked, {"text_start": told(tokenizer), **counts}
