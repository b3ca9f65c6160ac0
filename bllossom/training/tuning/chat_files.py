"""What a tuned model's folder says of its chat format: the template, and the ids that end an answer."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from bllossom.instructions.formats.format import ChatFormat
from bllossom.model.carried import GENERATION_CONFIG, carry
from bllossom.model.checkpoint import COMPANIONS, fetch
from bllossom.tokenizer.chat_template import write_chat_template
from bllossom.tokenizer.load import load_tokenizer, save_tokenizer


def stop_at(model: PreTrainedModel, chat: ChatFormat) -> None:
    """Have generation end at what ends an answer in the format, beside what ended it before."""
    settings = model.generation_config
    before = settings.eos_token_id if settings.eos_token_id is not None else []
    ends = list(dict.fromkeys([*chat.end_ids, *(before if isinstance(before, list) else [before])]))
    settings.eos_token_id = ends[0] if len(ends) == 1 else ends


def write_companions(source: str, model: PreTrainedModel, chat: ChatFormat, folder: Path) -> None:
    """Write into `folder` what the model of `source` came with, its tokenizer's files unchanged where it has some; with
    the format's template, and with what ends an answer (see stop_at)."""
    tokenizer, base = load_tokenizer(source), fetch(source, COMPANIONS)
    # The settings that a tokenizer.json alone lacks; those that the source has come over them.
    tokenizer.save_pretrained(folder)
    save_tokenizer(tokenizer, base, folder)
    carry(base, [], folder)
    write_chat_template(folder, chat.template)
    path = folder / GENERATION_CONFIG
    settings = json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}
    settings["eos_token_id"] = model.generation_config.eos_token_id
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf8")
