"""The eval stage: tasks through lm-eval, and bits per byte of held-out text, beside what the best constant answer gets.

    results.json        as lm-eval writes it, less what differs from run to run; under "bllossom" the manifest's figures
    samples/TASK.jsonl  each document: choices, log-likelihoods, prediction, right or not, as lm-eval logs samples
    samples/heldout_LANGUAGE.jsonl    each document: bits, bytes, tokens
    manifest            tasks: {name: {metric: {value, stderr, floor, chance, at_floor}, rows, score, …}}, not_run,
                        no_rows, averages, bits_per_byte: {language: x}, and what they depend on: encoding, …

A floor is the score of the best constant answer on the very rows that were scored. What is scored is kept task by task
in the partial folder: after a kill the same command goes on with the first that is missing. Of several ranks (`gpus`,
`processes`) each holds the model and takes its share of a task's requests; the scores are those of one.
"""

import logging
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator
from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import Manifest
from bllossom.config import InputPath, Source, StageConfig, expand_path
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.heldout import read_documents
from bllossom.evaluation.results import gather, results_json, table
from bllossom.evaluation.run import COUNTS, Run, stopping
from bllossom.evaluation.scoring.backend import Backend
from bllossom.evaluation.scoring.models import load_scorer, load_vllm
from bllossom.evaluation.scoring.vllm_backend import import_vllm
from bllossom.evaluation.tasks.build import Ready, count_documents, limits, prepare
from bllossom.evaluation.tasks.data import evaluated_split, find_files, named_files, read_split, shots_split
from bllossom.evaluation.tasks.definitions import Chosen, choose, with_revisions
from bllossom.evaluation.tasks.hub_rows import without_bars
from bllossom.hub import is_hub_id, pin
from bllossom.model.load import base_input
from bllossom.ranks.device import device_here, local_ranks
from bllossom.ranks.launch import publish_by_ranks, rank_count
from bllossom.ranks.ranks import Ranks, launched_from_outside
from bllossom.tokenizer.chat_template import date_figures, told_date
from bllossom.tokenizer.start import told

MESSAGES = 8  # of tasks without data that are told one by one
SETTINGS = {"encoding", "chat_template", "num_fewshot", "limit", "seed", "backend"}


class EvalConfig(StageConfig):
    """What to score, on what."""

    execution_keys: ClassVar[frozenset[str]] = frozenset({"batch_tokens", "gpus", "processes"})

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
    revisions: Annotated[
        dict[str, str],
        Field(
            description="of hub data sets: {owner/name: branch, tag or commit}; left out: the task's own, or the newest"
        ),
    ] = {}
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
    seed: Annotated[int, Field(ge=0, description="draws few-shot examples and bootstrap samples")] = 0
    backend: Annotated[
        Literal["transformers", "vllm"],
        Field(description="what computes: transformers, a model on each GPU; or vLLM, one model over all of them"),
    ] = "transformers"
    gpus: Annotated[
        Annotated[int, Field(ge=0)] | Literal["auto"],
        Field(description="GPUs of this machine to score on; auto takes all, 0 takes the CPU"),
    ] = "auto"
    processes: Annotated[int, Field(gt=0, description="ranks on this machine where no GPU is used")] = 1

    @field_validator("tasks")
    @classmethod
    def _folders(cls, tasks: list[str]) -> list[str]:
        return [str(expand_path(name)) if name.startswith("~") else name for name in tasks]

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
    if config.backend == "vllm":
        _check_vllm(config)
    chosen = _choose(config)
    bases = base_input("model", config.model)
    world = 1 if config.backend == "vllm" else rank_count(config.gpus, config.processes)
    manifest = publish_by_ranks(
        config,
        stage="eval",
        inputs={**_inputs(config, chosen), **bases},
        world=world,
        device=device_here(config.gpus),
        # What is wrong with the data, or not here, is told once, and before ranks begin.
        check=lambda _: _check(config, chosen) if world > 1 else None,
        work=_work if world > 1 else lambda config, folder, ranks: _build(config, chosen, folder, ranks),
        force=force,
        added_inputs=bases,
    )
    if not launched_from_outside() or os.environ.get("RANK") == "0":
        for line in table(manifest.figures):
            say(line)
    return manifest


def _check_vllm(config: EvalConfig) -> None:
    """Refuse what vLLM cannot do, before anything is read."""
    import_vllm()
    if launched_from_outside():
        raise BllossomError("backend: vllm starts its own processes; unset WORLD_SIZE, and start it once")
    if device_here(config.gpus) == "cpu":
        raise BllossomError("backend: vllm needs a GPU, and there is none here, or gpus is 0; leave backend out")


def dry_run(config: EvalConfig) -> list[str]:
    """What would be scored, and on how many rows; checks the data that are here."""
    chosen = _choose(config)
    told_lines, sizes = [], {}
    here = config.data is not None and config.data.exists()
    for name, definition in chosen.tasks.items():
        split = evaluated_split(definition.config)
        if config.data is not None and here and find_files(definition, split, config.data):
            sizes[name] = count_documents(definition, read_split(definition, split, config.data))
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
    return with_revisions(choose(config.tasks), config.revisions)


def _inputs(config: EvalConfig, chosen: Chosen) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {f"heldout.{language}": path for language, path in config.heldout.items()}
    own = [Path(name) for name in config.tasks if Path(name).is_dir()]
    for number, folder in enumerate(own):
        alike = sum(other.name == folder.name for other in own[:number])
        inputs[f"tasks.{folder.name}{f'.{alike}' if alike else ''}"] = folder
    if is_hub_id(config.model) or Path(config.model).exists():  # else told where it is loaded, behind the data's faults
        inputs["model"] = config.model
    for name, definition in chosen.tasks.items():
        uses = {"": evaluated_split(definition.config)}
        if config.num_fewshot or definition.config.get("num_fewshot"):
            uses[".shots"] = shots_split(definition.config)
        for use, split in uses.items():
            files = [] if config.data is None else find_files(definition, split, config.data)
            for number, file in enumerate(files or named_files(definition, split)):
                inputs[f"data.{name}{use}{f'.{number}' if number else ''}"] = file
    return inputs


def _work(config: EvalConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """What each rank does. Definitions hold functions, which cannot be sent to it: it finds them itself."""
    return _build(config, _choose(config), folder, ranks)


def _check(config: EvalConfig, chosen: Chosen) -> None:
    _read(config, chosen, aloud=False)


def _read(
    config: EvalConfig, chosen: Chosen, *, aloud: bool
) -> tuple[dict[str, Ready], dict[str, list[str]], dict[str, str]]:
    """The tasks with their rows, held-out text by language, and why tasks are not run."""
    documents = {language: read_documents(str(path)) for language, path in config.heldout.items()}
    shots, limit = config.num_fewshot, config.limit
    with without_bars():
        tasks, missing = prepare(chosen, config.data, num_fewshot=shots, limit=limit, seed=config.seed)
    if not tasks and not documents:
        raise BllossomError("\n".join(_first_of(missing)))
    if aloud:
        for why in _first_of(missing):
            say(f"not run: {why}")
        for name, ready in tasks.items():
            if ready.unanswerable:
                say(f"{name}: {ready.unanswerable:,} of {ready.limit:,} rows have no right choice, and count as wrong")
    return tasks, documents, missing


def _first_of(missing: dict[str, str]) -> list[str]:
    lines = list(missing.values())
    more = [f"and {len(lines) - MESSAGES} tasks more, for such reasons"] if len(lines) > MESSAGES else []
    return lines[:MESSAGES] + more


def _build(config: EvalConfig, chosen: Chosen, folder: Path, ranks: Ranks) -> dict[str, Any]:
    # Everything that can be wrong with the data is found before a model is loaded.
    tasks, documents, missing = _read(config, chosen, aloud=ranks.first)
    measured, asked, figures = _score(config, tasks, documents, folder, ranks)
    if not ranks.first:
        return {}
    figures |= gather(chosen, asked, missing)
    figures["bits_per_byte"] = {language: held["bits_per_byte"] for language, held in measured.items()}
    figures["heldout"] = measured
    settings = config.model_dump(mode="json", include=SETTINGS)
    (folder / "results.json").write_text(results_json(asked, chosen, figures, settings), encoding="utf8")
    return figures | settings


def _load(config: EvalConfig, ranks: Ranks) -> tuple[Backend, PreTrainedTokenizerFast]:
    if config.backend == "vllm":
        return load_vllm(config.model, local_ranks(config.gpus, 1, torch.cuda.device_count()))
    return load_scorer(config.model, config.batch_tokens, ranks)


def _score(
    config: EvalConfig, tasks: dict[str, Ready], documents: dict[str, list[str]], folder: Path, ranks: Ranks
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Held-out figures by language, each task's results, and what was counted on the way."""
    with stopping(ranks) as check_stop:
        backend, tokenizer = _load(config, ranks)
        if config.chat_template and tokenizer.chat_template is None:
            raise BllossomError(f"{config.model}: its tokenizer has no chat template; leave chat_template out")
        check_stop()
        run = Run(folder, backend, tokenizer, config.encoding, config.chat_template, config.seed, ranks)
        measured, asked = run.score(tasks, documents, check_stop)
    if not ranks.first:
        return measured, asked, {}
    counts = {name: sum(found["counts"].get(name, 0) for found in asked.values()) for name in COUNTS}
    if counts["truncated"]:
        say(f"{counts['truncated']:,} requests: the beginning was cut to fit the model's window")
    if counts["chat_specials"]:
        say(f"{counts['chat_specials']:,} messages hold a special token's text, which became that token")
    if counts["chat_without_system"]:
        count = f"{counts['chat_without_system']:,} questions"
        say(f"{count} are asked without the task's description: the chat template refuses system messages")
    template = str(tokenizer.get_chat_template()) if config.chat_template else ""
    if line := told_date(template):
        say(line)
    dtypes = sorted({found["dtype"] for found in [*measured.values(), *asked.values()]})
    figures = {"text_start": told(tokenizer), "dtype": ", ".join(dtypes), **counts, **date_figures(template)}
    return measured, asked, figures
