"""The chat template of a folder, in every place that a reader looks for it.

    chat_template.jinja                     transformers 5, before everything else
    tokenizer_config.json: chat_template    transformers 4, llama.cpp's converter, text-generation-inference

Two that differ make two models of one folder, so both places get the same.
"""

import json
from pathlib import Path
from typing import Any

TEMPLATE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
KEY = "chat_template"


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


def _default(template: Any) -> str | None:
    """Several named ones stand in a list."""
    if isinstance(template, list):
        return {entry["name"]: entry["template"] for entry in template}.get("default")
    return template


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
