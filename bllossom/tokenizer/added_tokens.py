"""Added tokens, which may stand in three files: one rule for both families of tokenizers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bllossom.errors import BllossomError

TOKENIZER, CONFIG, ADDED = "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
ROLES = "special_tokens_map.json"
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}


def read_added_tokens(folder: Path, vocab: Mapping[str, int], tokenizer: str = TOKENIZER) -> dict[str, dict[str, Any]]:
    """Content → id and flags, from tokenizer.json, tokenizer_config.json and added_tokens.json, which must agree.

    `vocab` holds the ids of the pieces themselves, `tokenizer` is the name of tokenizer.json where it has another.
    Whoever reads only one of the files numbers anew what is missing there, and gives a trained row another meaning.
    added_tokens.json has no flags: special is what a role names, so that outside text that holds it stays text.

    Raises:
        BllossomError: two of them give one token two ids, or one id two tokens.
    """
    added: dict[str, dict[str, Any]] = {}
    by_id = {number: piece for piece, number in vocab.items()}

    def add(name: str, content: str, number: int, flags: Mapping[str, Any]) -> None:
        known = added.get(content, {}).get("id", vocab.get(content, number))
        holder = by_id.setdefault(number, content)
        if known != number or holder != content:
            other = f"id {known}" if known != number else f"{holder!r}"
            raise BllossomError(
                f"{folder / name}: {content!r} is id {number}, elsewhere {other} stands there; the base's files "
                "disagree: take them all from one place"
            )
        added.setdefault(content, {"id": number, "content": content} | FLAGS | dict(flags))

    written = read_json(folder / tokenizer)
    pieces = (written.get("model") or {}).get("vocab")
    for piece, number in pieces.items() if isinstance(pieces, dict) else ():
        if piece in vocab and vocab[piece] != number:
            raise BllossomError(
                f"{folder / tokenizer}: {piece!r} is id {number}, in the SentencePiece model beside it {vocab[piece]}: "
                "they are not of one tokenizer; put tokenizer.model of the model that this one was tuned from there"
            )
    for token in written.get("added_tokens") or []:
        add(tokenizer, token["content"], token["id"], token)
    for number, token in (read_json(folder / CONFIG).get("added_tokens_decoder") or {}).items():
        add(CONFIG, token["content"], int(number), {key: token[key] for key in FLAGS if key in token})
    named = special_tokens(read_json(folder / CONFIG)) | special_tokens(read_json(folder / ROLES))
    for content, number in read_json(folder / ADDED).items():
        add(ADDED, content, number, {"normalized": False, "special": content in named})
    return added


def read_roles(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json with the roles of an older special_tokens_map.json.

    Where they disagree the map counts, unless tokenizer_config.json holds the added tokens too: as transformers 5 has
    it.

    Raises:
        BllossomError: one of them is damaged.
    """
    told = {key: value for key, value in read_json(folder / CONFIG).items() if value is not None}
    older = {key: value for key, value in read_json(folder / ROLES).items() if value is not None}
    return older | told if "added_tokens_decoder" in told else told | older


def special_tokens(config: Mapping[str, Any]) -> set[str]:
    """The special tokens that a tokenizer's settings name."""
    found = [value for key, value in config.items() if key.endswith("_token") and not key.startswith("add_")]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        several = config.get(key) or []
        found += several.values() if isinstance(several, dict) else several
    contents = (value["content"] if isinstance(value, dict) else value for value in found)
    return {content for content in contents if isinstance(content, str)}


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file; nothing where there is no file.

    Raises:
        BllossomError: it is damaged, or holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise BllossomError(f"{path} is no JSON file ({error}); download it again") from error
    if not isinstance(found, dict):
        raise BllossomError(f"{path} holds no JSON object, as such a file does; download it again")
    return found
