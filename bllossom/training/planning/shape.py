"""A model's shape without its weights: from `init`, a folder's config.json, the hub, or a file beside the config."""

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from bllossom.errors import BllossomError
from bllossom.hub import is_hub_id, pretrained
from bllossom.model.checkpoint import refuse_wrapper
from bllossom.tokens.shards import INDEX, read_index
from bllossom.training.models import InitModel, ModelSource, llama_config


def shape_of(source: ModelSource, beside: Path, tokens: Path | None = None) -> PretrainedConfig:
    """The model's config: from `init`, a folder's config.json, or the hub.

    A model that is not here yet, because an earlier step makes it or the hub is out of reach, is planned from a
    config.json in `beside`, the folder of the stage's YAML. Where `tokens` are there, they say how many rows the model
    will have.

    Raises:
        BllossomError: the model's shape cannot be had.
    """
    rows = read_index(tokens).pieces if tokens is not None and (tokens / INDEX).is_file() else None
    spare = beside / "config.json"
    if isinstance(source, InitModel):
        if rows is None and not spare.is_file():
            raise BllossomError(
                f"how many rows the model gets follows from {tokens}, which is not here yet; run bllossom "
                f"prepare first, or put a config.json with vocab_size at {spare}"
            )
        return llama_config(source.init, rows or AutoConfig.from_pretrained(spare).vocab_size)
    shape = _read_shape(source, spare)
    if rows is not None:
        shape.vocab_size = rows
    return shape


def _read_shape(source: str, spare: Path) -> PretrainedConfig:
    if (Path(source) / "config.json").is_file():
        return _read_config(source)
    reason = "is not here yet"
    if is_hub_id(source):
        try:
            return _read_config(source)
        except (OSError, ValueError) as error:
            reason = f"cannot be had from the hub ({str(error).splitlines()[0]})"
    if spare.is_file():
        return _read_config(str(spare))
    raise BllossomError(
        f"model: {source} {reason}; set model=FOLDER, a folder with its config.json (no weights are needed), or put "
        f"that file at {spare}"
    )


def _read_config(source: str) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(**pretrained(source))
    refuse_wrapper(source, config.to_dict())
    return config
