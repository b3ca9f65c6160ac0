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
    own = tokenizer.chat_template
    if isinstance(own, dict):  # several, by name
        own = own.get("default")
    if not own:  # named are those whose pieces it has
        fitting = ", ".join([*fitting_layouts(tokenizer), "or a Jinja file"]).replace(", or", " or")
        what = "no default one among its chat templates" if tokenizer.chat_template else "no chat template of its own"
        raise BllossomError(f"the model has {what}; set template to {fitting.removeprefix('or ')}")
    return TemplateFormat(own, tokenizer, "of the model")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise BllossomError(f"template: {path} cannot be read ({error}); name a Jinja file in UTF-8") from error
