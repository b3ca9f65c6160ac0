"""expand: give a model rows for a larger vocabulary, on its files, without loading it.

        base                         output
      0 ┌──────────┐                ┌──────────┐
        │ trained  │ ── as it is ─▶ │ old rows │   bit-equal (converted, if `dtype` says so)
 32,000 └──────────┘                ├──────────┤
                                    │ new rows │   input_init, output_init
 39,478                             ├──────────┤
                                    │ padding  │   the mean of the old rows
 39,488                             └──────────┘

Shards that hold neither matrix become hard links to the base's files. Nothing of ours ever writes into a finished
file, so both folders are safe; for a program that changes weights in place, `link: false` makes copies.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bllossom.artifacts import Manifest, publish
from bllossom.config import AddedIn, InputPath, Source, StageConfig
from bllossom.console import size_text
from bllossom.errors import ConfigError
from bllossom.hub import is_hub_id
from bllossom.model.checkpoint import fetch, open_checkpoint, untie
from bllossom.model.initializers import Method
from bllossom.model.pieces import compare_tokenizers
from bllossom.model.surgery import SurgeryPlan, write_model

# With these a trained base learned Korean best (docs/results/init-smollm2.md). Random input rows, a little better on a
# base that has seen next to nothing (init.md), cost the trained one a tenth.
OF_TWO: Method = "subword-weighted"
OF_ONE: Method = "subword-mean"
STORED_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class ExpandConfig(StageConfig):
    """Keys of expand."""

    model: Annotated[Source, Field(description="the base: a model's folder with its own tokenizer, or a hub id")]
    tokenizer: Annotated[InputPath, Field(description="merge-vocab's folder; the number of rows is in its manifest")]
    input_init: Annotated[
        Method | None,
        Field(
            description=f"first values of the embedding's new rows; null: {OF_TWO}, and {OF_ONE} where the model is "
            "tied, which has no other matrix",
        ),
    ] = None
    output_init: Annotated[
        Method | None, Field(description=f"first values of the output matrix's new rows; null: {OF_TWO}")
    ] = None
    untie: Annotated[
        bool,
        AddedIn(2),
        Field(description="give a tied model an output matrix of its own, which starts as the embedding's rows"),
    ] = False
    seed: Annotated[int, Field(description="of random, normal, and subword-mean's noise")] = 0
    dtype: Annotated[
        Literal["keep", "float32", "float16", "bfloat16"], Field(description="of all weights; keep is the base's")
    ] = "keep"
    link: Annotated[
        bool, Field(description="hard-link the shards that do not change, where the file system allows it")
    ] = True


def expand(config: ExpandConfig, *, force: bool = False) -> Manifest:
    """Publish `config.model` with a row for every piece of `config.tokenizer`.

    Raises:
        ConfigError: a key has no meaning for this model.
        BllossomError: the tokenizer does not go on where the base's ends, a shard is missing or cut short, the
            architecture is not a Llama-like one, the disk has no room, or a hub id cannot be fetched.
    """
    folder = fetch(config.model)
    plan = make_plan(config, folder)
    config = config.model_copy(update={"input_init": plan.input_init, "output_init": plan.output_init})
    return publish(
        config,
        stage="expand",
        inputs={"model": folder, "tokenizer": config.tokenizer},
        build=lambda partial: write_model(plan, partial),
        force=force,
    )


def make_plan(config: ExpandConfig, folder: Path) -> SurgeryPlan:
    """Read the headers in the model's `folder` and both tokenizers, and check that they fit each other."""
    checkpoint = open_checkpoint(folder)
    if config.untie:
        if not checkpoint.tied:
            raise ConfigError(f"untie: {folder} is not tied, it has two matrices already; take untie out")
        checkpoint = untie(checkpoint)
    if checkpoint.tied and config.output_init is not None:
        raise ConfigError(
            f"output_init: {folder} is tied, one matrix serves both sides and input_init fills it; take output_init "
            "out, or set untie: true"
        )
    return SurgeryPlan(
        checkpoint=checkpoint,
        tokenizer=config.tokenizer,
        pieces=compare_tokenizers(folder, config.tokenizer),
        input_init=config.input_init or (OF_ONE if checkpoint.tied else OF_TWO),
        output_init=None if checkpoint.tied else config.output_init or OF_TWO,
        seed=config.seed,
        dtype=STORED_NAMES.get(config.dtype),
        link=config.link,
    )


def dry_run(config: ExpandConfig) -> list[str]:
    """What would be written, once the model and the tokenizer are here."""
    folder = Path(config.model)
    if is_hub_id(config.model) or not folder.is_dir() or not config.tokenizer.is_dir():
        return ["rows and bytes are known once the model and the tokenizer are here"]
    plan = make_plan(config, folder)
    pieces, shards = plan.pieces, plan.checkpoint.shards
    unchanged = frozenset(shard.path for shard in shards if not plan.changes(shard))
    inits = ", ".join(f"{name} {method}" for name, method in plan.matrices.items())
    lines = [
        f"{pieces.base:,} pieces + {pieces.new:,} new + {pieces.padding:,} padding = {pieces.rows:,} rows",
        f"first values: {inits}",
        f"writes {size_text(plan.bytes_to_write(unchanged if config.link else frozenset()))}",
    ]
    if unchanged:
        how = "hard links, where the file system allows it" if config.link else "copies"
        lines.append(f"{len(unchanged)} of {len(shards)} shards do not change: {how}")
    return lines
