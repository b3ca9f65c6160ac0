"""sft: tune on instructions, with loss on the outputs only, L_SFT of the paper (arXiv 2403.10882, section 3)."""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bllossom.artifacts import LOGS, Manifest, read_origin
from bllossom.config import InputPath, Source
from bllossom.console import say
from bllossom.hub import is_hub_id, pin
from bllossom.instructions.dataset import Examples, epoch_order, load_examples
from bllossom.instructions.template import CHAT_TEMPLATE
from bllossom.model.folder import recorded_rows
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.engines.lora import add_adapters, check_base
from bllossom.training.engines.optimization import trained_weights
from bllossom.training.engines.rows import IGNORED, Row
from bllossom.training.models import check_kernels, load_model, resolve_here
from bllossom.training.planning.disk import check_disk, disk_need, strategy_of
from bllossom.training.ranks.device import device_here
from bllossom.training.ranks.ranks import Ranks
from bllossom.training.runs.checkpoints import CHECKPOINTS, RunInputs
from bllossom.training.runs.launch import publish_trained, rank_count
from bllossom.training.runs.run import Run, Segment, Watch, accumulation_of, figures_of
from bllossom.training.runs.train_segment import parameter_count, train_segment
from bllossom.training.settings import TrainingConfig


class SftConfig(TrainingConfig):
    """What `bllossom sft` reads."""

    model: Annotated[Source, Field(description="a model folder with its tokenizer, or a hub id")]
    data: Annotated[list[InputPath], Field(min_length=1, description="instruction files (see instructions/dataset.py)")]
    examples_per_step: Annotated[int, Field(gt=0, description="examples in one optimizer step")]
    epochs: Annotated[int, Field(gt=0, description="times that each example is read")] = 1
    max_tokens: Annotated[int, Field(gt=1, description="longest example, in tokens")] = 2048
    too_long: Annotated[
        Literal["drop", "cut"], Field(description="what is done with a longer example; each one is counted and listed")
    ] = "drop"


class ExampleRows:
    """Instruction examples as rows: one pass after the other, each in an order of its own.

    The last step of a run is filled from the pass that would follow, so that every example is read at least `epochs`
    times and no step is smaller than the others.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self.examples = examples
        self.seed = seed
        self.groups: tuple[str, ...] = ("outputs",)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def row(self, index: int) -> Row:
        """Example `index` of the endless sequence of passes."""
        example = self.examples.items[self._place(index)]
        labels = np.where(example.supervised, example.ids, IGNORED)
        return Row(example.ids, labels, np.arange(len(example.ids)), "outputs")

    def describe(self, index: int) -> str:
        """Which example it is, counted over all files from 0, leaving out what was dropped."""
        return f"example {self._place(index)}"

    def leave_out(self, indices: Sequence[int]) -> str:
        """Other data are another run."""
        return "take the bad ones out of the data and start over with --force"

    def _place(self, index: int) -> int:
        epoch, place = divmod(index, len(self.examples.items))
        if epoch != self._epoch:  # kept only because shuffling anew for each row is slow
            self._epoch, self._order = epoch, epoch_order(len(self.examples.items), self.seed, epoch)
        return int(self._order[place])


def sft(config: SftConfig, *, force: bool = False) -> Manifest:
    """Tune the model of `config` on its instructions and publish a plain Hugging Face folder with a chat template; with
    lora a peft adapter's folder.

    Raises:
        BllossomError: an instruction file is not of the documented shape, or no example is left.
        Stopped: stopped on request; the same command goes on.
    """
    config = resolve_here(config)
    config = config.model_copy(update={"model": pin(config.model)})
    inputs: dict[str, Path | str] = {f"data.{index}": path for index, path in enumerate(config.data)}
    inputs["model"] = config.model
    accumulation_of(config.examples_per_step, config, rank_count(config), "examples")
    check_kernels(config, device_here(config.gpus))
    check_base(config.model, config.lora)
    run_inputs = partial(_run_inputs, config)
    return publish_trained(config, stage="sft", inputs=inputs, run_inputs=run_inputs, work=_train, force=force)


def dry_run(config: SftConfig) -> list[str]:
    """The batch arithmetic; the number of steps follows from the examples once model and data are there."""
    config = resolve_here(config)
    batch = f"{_arithmetic(config, rank_count(config))}; {config.epochs} epochs of {len(config.data)} files"
    return [batch, config.computing(device_here(config.gpus))]


def _arithmetic(config: SftConfig, world: int) -> str:
    accumulation = accumulation_of(config.examples_per_step, config, world, "examples")
    return (
        f"micro-batch {config.micro_batch} examples × {world} {'rank' if world == 1 else 'ranks'} × {accumulation} "
        f"accumulation = {config.examples_per_step} examples a step"
    )


def _run_inputs(config: SftConfig, folder: Path) -> RunInputs:
    """What a checkpoint must have been made from (see checkpoints.RunInputs).

    The fingerprints come from the partial folder: the first rank has hashed the inputs, and no other one has to.
    """
    origin = read_origin(folder)
    inputs = origin.inputs if origin else {}
    fixed = {
        "data": ", ".join(inputs[f"data.{index}"][:16] for index, path in enumerate(config.data) if path.is_file()),
        "model": inputs["model"] if is_hub_id(config.model) else inputs["model"][:16],
        "examples_per_step": str(config.examples_per_step),
        "precision": config.precision,
        "order": f"max_tokens {config.max_tokens} {config.too_long} seed {config.seed}",
    }
    return lambda step: fixed


def _train(config: SftConfig, folder: Path, ranks: Ranks) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.model)
    examples = load_examples(config.data, tokenizer, config.max_tokens, config.too_long)
    figures = examples.figures()
    steps = -(-len(examples.items) * config.epochs // config.examples_per_step)
    if ranks.first:
        computing = config.computing(device_here(config.gpus))
        for line in (_arithmetic(config, ranks.world), computing, ", ".join(f"{k} {v:,}" for k, v in figures.items())):
            say(line)
        _list_too_long(examples, folder)
    model = load_model(config.model, config)
    if config.lora is not None:
        add_adapters(model, config.lora, config.seed)
    trained, parameters = parameter_count(trained_weights(model, "all")), parameter_count(model.parameters())
    check_disk(folder, disk_need(config, strategy_of(config), trained=trained, parameters=parameters, phases=1))
    state = train_segment(
        Run(config, folder, ranks, _run_inputs(config, folder)),
        model,
        ExampleRows(examples, config.seed),
        Segment(steps, config.examples_per_step, config.learning_rate, total=steps),
        Watch(),
        save_to=folder,
        save_dtype=config.save_dtype,
    )
    if ranks.first:
        tokenizer.chat_template = CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)
        copy_tokenizer(Path(config.model), folder)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return recorded_rows(config.model) | figures | figures_of(state)


def _list_too_long(examples: Examples, folder: Path) -> None:
    """Write what was dropped or cut where a person can read it."""
    (folder / LOGS).mkdir(exist_ok=True)
    lines = [json.dumps(vars(entry), ensure_ascii=False) + "\n" for entry in examples.too_long]
    (folder / LOGS / "too_long.jsonl").write_text("".join(lines), encoding="utf8")
