"""The chat template of a folder, in every place that a reader looks for it.

    chat_template.jinja                     transformers 5, before everything else
    tokenizer_config.json: chat_template    transformers 4, llama.cpp's converter, text-generation-inference

Two that differ make two models of one folder, so both places get the same.

A template may ask for today's date, as Llama 3.2's does, and give other ids tomorrow. What is trained on and measured
is rendered as if it were always `TEMPLATE_DATE`.
"""

import json
from datetime import date
from pathlib import Path
from typing import Any

TEMPLATE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
KEY = "chat_template"
CLOCK = "strftime_now"  # what transformers gives templates to ask for the date
TEMPLATE_DATE = date(2024, 7, 26)
"""What Llama 3.2's template says where it is given no date."""
DATE_CODES = "aAbBcdHIjmMpSxXyY"  # of strftime


def read_chat_template(folder: Path) -> str | None:
    """The template that transformers takes from `folder`; of several named ones the default."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf8")
    return _default(_read_config(folder).get(KEY))


def write_chat_template(folder: Path, template: str) -> None:
    """Put `template` into every place, instead of what stands there."""
    (folder / TEMPLATE).write_text(template, encoding="utf8")
    config = _read_config(folder)
    if config and _default(config.get(KEY)) != template:
        text = json.dumps(config | {KEY: template}, ensure_ascii=False, indent=2)
        (folder / CONFIG).write_text(text + "\n", encoding="utf8")


def asks_for_date(template: str) -> bool:
    """Whether a template's renderings may be others on another day."""
    return CLOCK in template


def told_date(template: str) -> str:
    """What is to be said of a template that asks for the date; "" of another."""
    if not asks_for_date(template):
        return ""
    return f"the chat template asks for today's date; it is always given {TEMPLATE_DATE}"


def date_figures(template: str) -> dict[str, str]:
    """What a manifest tells of a template that asks for the date; nothing of another."""
    return {"template_date": TEMPLATE_DATE.isoformat()} if asks_for_date(template) else {}


def with_fixed_date(template: str) -> str:
    """The template with `TEMPLATE_DATE` for the date, at midnight; one that asks for none as it is."""
    if not asks_for_date(template):
        return template
    # transformers hands templates no functions of ours, but a macro of the template's own comes before its clock.
    codes = {f"%{code}": TEMPLATE_DATE.strftime(f"%{code}") for code in DATE_CODES} | {"%-d": str(TEMPLATE_DATE.day)}
    said = "format" + "".join(f"|replace({code!r}, {text!r})" for code, text in codes.items())
    # The line end behind a block is left out, and the template begins at a line's start as before.
    return f"{{% macro {CLOCK}(format) %}}{{{{ {said} }}}}{{% endmacro %}}\n{template}"


def _default(template: Any) -> str | None:
    """Several named ones stand in a list."""
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
