"""What training will see of instructions, for a person or as JSON. No weights are needed."""

import json
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any

from rich.console import Console
from rich.text import Text
from transformers import AutoConfig, PreTrainedTokenizerFast

from bllossom.errors import BllossomError, ConfigError
from bllossom.hub import pretrained
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.engines.rows import IGNORED, Row
from bllossom.training.models import resolve_here, window_of
from bllossom.training.sft import LIMA_TOKENS, SftConfig, load_examples, with_window, without_leaks
from bllossom.training.tuning.example_rows import ExampleRows, PackedSteps, packed_row


def preview(config: SftConfig, count: int, *, packed: bool, as_json: bool, emit: Callable[[str], None]) -> None:
    """Show the first `count` examples of the files, or the first packed rows of the run: coloured, what carries loss
    bold on a terminal and between ⟦ ⟧ in a pipe; or as JSON, a line each.

    Raises:
        ConfigError: packed rows are asked for, and the run would pack none.
    """
    config = with_window(resolve_here(config), window_of(config.model))
    if packed:
        unpacked, why = without_leaks(config, AutoConfig.from_pretrained(**pretrained(config.model)).model_type)
        if not unpacked.packing:
            raise ConfigError(f"--packed: {why or 'packing is false'}, so that a row is one example; leave it out")
    tokenizer = load_tokenizer(config.model)
    for source, row in islice(_rows(config, packed), count):
        if as_json:
            emit(json.dumps(as_record(row, source, tokenizer), ensure_ascii=False))
        else:
            _show(row, source, tokenizer)


def show_example(config: SftConfig, number: int) -> None:
    """Show example `number`, from 0, of the files.

    Raises:
        BllossomError: there are not so many.
    """
    config = with_window(resolve_here(config), window_of(config.model))
    found = next(islice(_rows(config, packed=False), number, None), None)
    if found is None:
        raise BllossomError(f"there is no example {number:,}; name a lower number, from 0")
    source, row = found
    _show(row, source, load_tokenizer(config.model))


def as_record(row: Row, source: str, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """A row as JSON holds it; `positions` begin anew at each example."""
    ids = row.ids.tolist()
    supervised = (row.labels != IGNORED).tolist()
    pieces = tokenizer.convert_ids_to_tokens(ids)
    return {
        "ids": ids,
        "supervised": supervised,
        "pieces": pieces,
        "source": source,
        "positions": row.positions.tolist(),
    }


def _rows(config: SftConfig, packed: bool) -> Iterator[tuple[str, Row]]:
    _, examples, _, _ = load_examples(config)
    if not packed:
        yield from ((example.source, packed_row([example])) for example in examples.items)
        return
    rows = ExampleRows(examples.items, config.seed)
    steps = PackedSteps(rows, config.examples_per_step, config.max_tokens or LIMA_TOKENS, config.micro_batch)
    for step in range(-(-len(examples.items) * config.epochs // config.examples_per_step)):
        for members in steps.packed(step):
            yield ", ".join(member.source for member in members), packed_row(members)


def _show(row: Row, source: str, tokenizer: PreTrainedTokenizerFast) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"── {source}: {len(row.ids):,} tokens, {row.supervised():,} supervised", "bold"))
    text = Text()
    for supervised, run in groupby(zip(row.ids.tolist(), row.labels != IGNORED, strict=True), key=lambda pair: pair[1]):
        said = tokenizer.backend_tokenizer.decode([id_ for id_, _ in run], skip_special_tokens=False)
        marked = said if console.is_terminal or not supervised else f"⟦{said}⟧"
        text.append(marked, "bold green" if supervised else "dim")
    console.print(text)
