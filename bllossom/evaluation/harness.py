"""The eval stage: the eight tasks of the paper's Table 6 through lm-eval, and bits per byte of held-out text.

    results.json   as lm-eval writes it, less what differs from run to run; bits per byte stand among the results
    manifest       tasks: {name: {metric: {value, stderr, floor}, rows, score}}, average, bits_per_byte: {language: x}

A floor is the score of the best constant answer on the very rows that were scored.
"""

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from bllossom.artifacts import Manifest, publish
from bllossom.config import InputPath, Source, StageConfig
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.data import evaluated_file, evaluated_rows, find_file, train_rows
from bllossom.evaluation.heldout import bits_per_byte, read_documents
from bllossom.evaluation.results import PREFIX, results_json, table, task_figures
from bllossom.evaluation.scoring import check_head
from bllossom.hub import name_and_revision, pin
from bllossom.tokenizer.load import load_tokenizer

TaskName = Literal[
    "klue_nli",
    "klue_sts",
    "klue_ynat",
    "kosbi",
    "kobest_boolq",
    "kobest_copa",
    "kobest_hellaswag",
    "kobest_sentineg",
]


class EvalConfig(StageConfig):
    """What to score, on what."""

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    tasks: Annotated[list[TaskName], Field(description="tasks to score; [] for bits per byte alone")] = []
    data: Annotated[InputPath | None, Field(description="folder with klue/, kobest/, kosbi/; the hub if left out")] = (
        None
    )
    limit: Annotated[int | None, Field(gt=0, description="score the first rows of each task only")] = None
    num_fewshot: Annotated[int, Field(ge=0, description="solved examples in front of each question")] = 0
    encoding: Annotated[
        Literal["paper", "lm-eval"],
        Field(description="context and answer encoded apart without BOS (paper), or as one text with BOS (lm-eval)"),
    ] = "paper"
    heldout: Annotated[
        dict[str, InputPath], Field(description='JSONL of {"text": …} by language, for bits per byte')
    ] = {}
    batch_size: Annotated[int, Field(gt=0, description="sequences in one pass of the model")] = 16
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
    """Score `config.model` and publish results.json.

    Raises:
        BllossomError: data or model are missing or of another shape than the tasks need.
    """
    config = config.model_copy(update={"model": pin(config.model)})
    manifest = publish(
        config, stage="eval", inputs=_inputs(config), build=lambda folder: _build(config, folder), force=force
    )
    for line in table(manifest.figures):
        say(line)
    return manifest


def dry_run(config: EvalConfig) -> list[str]:
    """What would be scored, and on how many rows; checks the data that are here."""
    lines = []
    for task in config.tasks:
        if config.data is None:
            lines.append(f"{task}: rows from the hub")
        elif not config.data.exists():
            lines.append(f"{task}: rows from {config.data}, not here yet")
        else:
            rows = len(evaluated_rows(task, config.data))
            used = min(rows, config.limit or rows)
            lines.append(f"{task}: {used:,} of {rows:,} rows of {evaluated_file(task, config.data)}")
    if config.tasks:
        lines.append(f"{config.num_fewshot} shots, encoding: {config.encoding}")
    for language, path in config.heldout.items():
        size = f"{path.stat().st_size:,} bytes" if path.exists() else "not here yet"
        lines.append(f"bits per byte, {language}: {path} ({size})")
    return lines


def _inputs(config: EvalConfig) -> dict[str, Path | str]:
    inputs: dict[str, Path | str] = {f"heldout.{language}": path for language, path in config.heldout.items()}
    inputs["model"] = config.model
    if config.data is None:
        return inputs
    for task in config.tasks:
        inputs[f"data.{task}"] = evaluated_file(task, config.data)
        shots = find_file(task, config.data, "train") if config.num_fewshot else None
        if shots is not None:
            inputs[f"data.{task}.train"] = shots
    return inputs


def _build(config: EvalConfig, folder: Path) -> dict[str, Any]:
    # Everything that can be wrong with the data is found before a model is loaded.
    documents = {language: read_documents(path) for language, path in config.heldout.items()}
    tasks = load_tasks(config) if config.tasks else {}
    model, tokenizer = _load_model(config)
    measured = {
        language: bits_per_byte(model, tokenizer, texts, config.batch_size) for language, texts in documents.items()
    }
    results: dict[str, Any] = {"results": {}}
    figures: dict[str, Any] = {"tasks": {}, "average": None, "average_floor": None}
    if tasks:
        results, figures["truncated"] = _run_tasks(config, tasks, model, tokenizer)
        figures["tasks"] = {name: task_figures(name, results, config.seed) for name in config.tasks}
        scores = [task[task["score"]] for task in figures["tasks"].values()]
        figures["average"] = sum(score["value"] for score in scores) / len(scores)
        figures["average_floor"] = sum(score["floor"] for score in scores) / len(scores)
    figures["bits_per_byte"] = {language: held.bits_per_byte for language, held in measured.items()}
    figures["heldout"] = {language: asdict(held) for language, held in measured.items()}
    settings = config.model_dump(mode="json", include={"encoding", "num_fewshot", "limit", "seed", "batch_size"})
    text = results_json(results, figures, settings)
    (folder / "results.json").write_text(text, encoding="utf8")
    return figures | settings


def load_tasks(config: EvalConfig) -> dict[str, Any]:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise BllossomError("tasks need lm-evaluation-harness: pip install 'bllossom[eval]'") from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every default it takes
    metadata: dict[str, Any] = {"folder": str(config.data) if config.data else None}
    manager = TaskManager(include_path=Path(__file__).parent / "tasks", include_defaults=False, metadata=metadata)
    tasks = manager.load([PREFIX + name for name in config.tasks])["tasks"]
    for name in config.tasks:
        task = tasks[PREFIX + name]
        task.set_config("num_fewshot", config.num_fewshot)
        task.set_fewshot_seed(config.seed)
        if config.num_fewshot:
            pool = train_rows(name, config.data)
            if pool is not None:
                task.sampler.replace_df(pool)
            available = len(task.eval_docs) if pool is None else len(pool)
            if available <= config.num_fewshot:
                raise BllossomError(
                    f"{name}: {available} rows are too few for {config.num_fewshot} shots; lower num_fewshot"
                )
    return tasks


def _load_model(config: EvalConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    device: str = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # A GPU takes the weights as they are; on a CPU bf16 is slower than fp32, and less exact.
        placement = {"dtype": "auto", "device_map": "cuda"} if device == "cuda" else {"dtype": torch.float32}
        name, revision = name_and_revision(config.model)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(name, revision=revision or "main", **placement)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BllossomError(
            f"{config.model}: no model can be loaded ({reason}); name a model folder or a hub id"
        ) from error
    tokenizer = load_tokenizer(config.model)
    rows = int(model.config.vocab_size)
    if len(tokenizer) > rows:
        raise BllossomError(
            f"{config.model}: its tokenizer has {len(tokenizer):,} pieces, its model {rows:,} rows; "
            "put the tokenizer there that the model was made with"
        )
    model.eval()
    check_head(model)
    return model, tokenizer


def _run_tasks(
    config: EvalConfig, tasks: dict[str, Any], model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[dict[str, Any], int]:
    """lm-eval's results with its samples, and the number of answers whose context was cut to fit the window."""
    import lm_eval

    from bllossom.evaluation.lm import BllossomLM

    lm = BllossomLM(model, tokenizer, config.encoding, config.batch_size)
    results = lm_eval.evaluate(lm, {"tasks": tasks}, limit=config.limit)
    if lm.truncated:
        say(f"{lm.truncated:,} answers: the beginning of the context was cut to fit the model's window")
    return results, lm.truncated
