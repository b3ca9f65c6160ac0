"""Loading a tokenizer, and encoding text that comes from the outside. What the later stages need of this room."""

import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.hub import download, is_hub_id, name_and_revision
from bllossom.tokenizer.added_tokens import TOKENIZER, read_added_tokens, read_json, read_roles
from bllossom.tokenizer.convert import (
    TEMPLATE,
    adds_bos,
    check_scores,
    prefixes_first_only,
    to_fast,
    tokenizer_config,
    with_added_tokens,
)
from bllossom.tokenizer.files import TOKENIZER_FILES, copy_tokenizer
from bllossom.tokenizer.sentencepiece_file import check_convertible, find_model_file, read_model


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder (its tokenizer.json before its tokenizer.model), a file, or a hub id.

    A bare tokenizer.model is converted by convert.py: transformers' own conversion (5.23) does not look at the scores,
    and gives other ids than SentencePiece on runs of spaces.

    Raises:
        BllossomError: there is no tokenizer, or not one that can be loaded.
    """
    path = Path(source)
    if path.is_dir() and (path / TOKENIZER).is_file():
        return _load(str(path))
    if path.is_file() and path.suffix == ".json":
        raise BllossomError(f"{path}: name the folder it lies in, which holds tokenizer_config.json too")
    if is_hub_id(str(source)):
        return _from_hub(str(source))
    return _convert(find_model_file(source))


def _convert(model_file: Path) -> PreTrainedTokenizerFast:
    model, folder = read_model(model_file), model_file.parent
    check_convertible(model, model_file)
    check_scores(model, model_file)
    model = with_added_tokens(model, folder)
    added = read_added_tokens(folder, {piece.piece: i for i, piece in enumerate(model.pieces)})
    told = read_roles(folder)
    roles = tokenizer_config(model, told)
    if (folder / TEMPLATE).is_file():
        roles["chat_template"] = (folder / TEMPLATE).read_text(encoding="utf8")
    first_only = prefixes_first_only(read_json(folder / TOKENIZER))
    fast = to_fast(model, added, bos_first=adds_bos(model, told), first_only=first_only)
    return PreTrainedTokenizerFast(tokenizer_object=fast, **roles)


def _from_hub(name: str) -> PreTrainedTokenizerFast:
    # From a bare tokenizer.model on the hub, too, transformers makes one of its own, without a word.
    if not (download(name, TOKENIZER_FILES) / TOKENIZER).is_file():
        return _convert(find_model_file(name))
    repository, revision = name_and_revision(name)
    return _load(repository, revision or "main")


def _load(source: str, revision: str = "main") -> PreTrainedTokenizerFast:
    try:
        return PreTrainedTokenizerFast.from_pretrained(source, revision=revision)
    except Exception as error:  # tokenizers raises no narrower kind for a file that is damaged
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BllossomError(f"{source}: its tokenizer does not load ({reason}); get its files anew") from error


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, source: Path, folder: Path) -> None:
    """Put a tokenizer that was loaded from `source` into `folder`: its files unchanged, where it has a tokenizer.json.

    Else it is written as it was loaded, and of the files tokenizer.model alone is kept: the settings beside it are for
    other readers, and would give the tokenizer.json that was made of it other ids and special tokens.
    """
    if (source / TOKENIZER).is_file():
        copy_tokenizer(source, folder)
        return
    tokenizer.save_pretrained(folder)
    model = source if source.is_file() else source / "tokenizer.model"
    if model.is_file():
        shutil.copyfile(model, folder / "tokenizer.model")
