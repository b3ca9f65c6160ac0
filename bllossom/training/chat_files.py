"""What a tuned model's folder says of its chat format: the template, and the ids that end an answer."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from bllossom.instructions.formats.format import ChatFormat
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"


def stop_at(model: PreTrainedModel, chat: ChatFormat) -> None:
    """Have generation end at what ends an answer in the format, beside what ended it before."""
    settings = model.generation_config
    before = settings.eos_token_id if settings.eos_token_id is not None else []
    ends = list(dict.fromkeys([*chat.end_ids, *(before if isinstance(before, list) else [before])]))
    settings.eos_token_id = ends[0] if len(ends) == 1 else ends


def write_tokenizer(model: str, chat: ChatFormat, folder: Path) -> None:
    """Write the tokenizer of `model` into `folder`, its files unchanged where it has some, with the format's template.

    The template stands in one place: the model's own file, and a copy in its config, give way to it.
    """
    load_tokenizer(model).save_pretrained(folder)
    copy_tokenizer(Path(model), folder)
    (folder / TEMPLATE_FILE).write_text(chat.template, encoding="utf8")
    path = folder / TOKENIZER_CONFIG
    settings = json.loads(path.read_text(encoding="utf8"))
    if settings.pop("chat_template", None) is not None:
        path.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf8")
