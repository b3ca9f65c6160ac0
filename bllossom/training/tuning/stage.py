"""What sft and dpo have in common as stages: their inputs, what is told at the start, what is left at the end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from bllossom.artifacts import read_origin
from bllossom.console import say
from bllossom.errors import ConfigError
from bllossom.hub import is_hub_id
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.preferences import PreferenceSource
from bllossom.instructions.reading import InstructionSource
from bllossom.ranks.device import device_here
from bllossom.tokenizer.chat_template import told_date
from bllossom.training.engines.lora import add_adapters
from bllossom.training.engines.optimization import trained_weights
from bllossom.training.models import load_model
from bllossom.training.planning.disk import check_disk, disk_need, strategy_of
from bllossom.training.runs.train_segment import parameter_count
from bllossom.training.settings import TrainingConfig
from bllossom.training.tuning.chat_files import stop_at
from bllossom.training.tuning.instruction_data import files_of


class Tuning(Protocol):
    """The keys of either config that say what is tuned, on what."""

    @property
    def model(self) -> str: ...

    @property
    def data(self) -> Sequence[InstructionSource | PreferenceSource]: ...

    @property
    def template(self) -> str | Path | None: ...


def inputs_of(config: Tuning, reference: str | None = None) -> dict[str, Path | str]:
    """Everything that is read, by name."""
    inputs: dict[str, Path | str] = {**files_of(config.data), "model": config.model}
    if reference is not None:
        inputs["reference"] = reference
    if isinstance(config.template, Path):
        inputs["template"] = config.template
    return inputs


def identities(config: Tuning, folder: Path, reference: str | None = None) -> dict[str, str]:
    """Which inputs a checkpoint was made from (see checkpoints.RunInputs).

    The fingerprints come from the partial folder: the first rank has hashed the inputs, and no other one has to.
    """
    origin = read_origin(folder)
    made = origin.inputs if origin else {}

    def model(name: str, source: str) -> str:
        return made[name] if is_hub_id(source) else made[name][:16]

    return {
        "data": ", ".join(made[name][:16] for name in files_of(config.data)),
        "model": model("model", config.model),
        **({} if reference is None else {"reference": model("reference", reference)}),
        "format": made["template"][:16] if isinstance(config.template, Path) else str(config.template),
    }


def check_length(max_tokens: int | None, window: int | None) -> None:
    """Refuse sequences longer than the model's window.

    Raises:
        ConfigError: they are.
    """
    if window is not None and max_tokens is not None and max_tokens > window:
        raise ConfigError(f"max_tokens: {max_tokens:,} is more than the model's window; at most {window:,}")


def tell_run(arithmetic: str, config: TrainingConfig, figures: Mapping[str, int], chat: ChatFormat) -> None:
    """Say what is computed, how, on how much, and with which date, where the template asks for one."""
    counted = ", ".join(f"{name} {count:,}" for name, count in figures.items())
    lines = [arithmetic, config.computing(device_here(config.gpus)), counted, told_date(chat.template)]
    for line in filter(None, lines):
        say(line)


def adapted_model(source: str, config: TrainingConfig, chat: ChatFormat, folder: Path) -> PreTrainedModel:
    """The model that is tuned, with its adapters if any, which ends an answer as the format does.

    Raises:
        BllossomError: it cannot be had, or what the run writes to `folder` would not fit on the disk.
    """
    model = load_model(source, config)
    if config.lora is not None:
        add_adapters(model, config.lora, config.seed)
    stop_at(model, chat)
    trained, parameters = parameter_count(trained_weights(model, "all")), parameter_count(model.parameters())
    check_disk(folder, disk_need(config, strategy_of(config), trained=trained, parameters=parameters, phases=1))
    return model
