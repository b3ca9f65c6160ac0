"""Which chat format a model is tuned in: the one that is named, a Jinja file, or the model's own."""

from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.formats.layout import LAYOUTS, LayoutFormat, fitting_layouts
from bllossom.instructions.formats.template import TemplateFormat

FormatName = Literal["plain", "lima", "llama2", "llama3", "chatml"]


def chat_format(choice: FormatName | Path | None, tokenizer: PreTrainedTokenizerFast) -> ChatFormat:
    """The format of that name, of that Jinja file, or for None the tokenizer's own template.

    Raises:
        BllossomError: the tokenizer lacks a piece that it needs, or has no template of its own; names those there are.
    """
    for layout in LAYOUTS:
        if choice == layout.name:
            return LayoutFormat(layout, tokenizer)
    if choice is not None:
        return TemplateFormat(_read(Path(choice)), tokenizer, str(choice))
    if not tokenizer.chat_template:  # named are those whose pieces it has
        fitting = ", ".join([*fitting_layouts(tokenizer), "or a Jinja file"]).replace(", or", " or")
        raise BllossomError(f"the model has no chat template of its own; set template to {fitting.removeprefix('or ')}")
    return TemplateFormat(tokenizer.get_chat_template(), tokenizer, "of the model")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise BllossomError(f"template: {path} cannot be read ({error}); name a Jinja file in UTF-8") from error
