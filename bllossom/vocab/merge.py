"""merge-vocab: a base vocabulary and the pieces of a donor, as one tokenizer, proved before it is published.

The base keeps its ids, pieces, types, merges and added tokens. The donor's pieces that the base lacks follow, below all
of the base in priority, each with a priority of its own: tied scores are resolved by position in SentencePiece and by
rank in tokenizer.json (google/sentencepiece#964, transformers#24233).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from bllossom.artifacts import Manifest, publish
from bllossom.config import AddedIn, InputGlob, Source, StageConfig
from bllossom.console import first_of, say
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.scripts import check_scripts, holds_script, main_scripts
from bllossom.vocab.base_inputs import files_beside
from bllossom.vocab.donor import Donor, DonorText, OneDonor, check_donors, describe, find_donor, read_donor
from bllossom.vocab.families.bases import Base, ByteLevelBase, open_base
from bllossom.vocab.families.vocabulary import Vocabulary, count_atoms, count_words
from bllossom.vocab.learning.from_text import learn_from_text
from bllossom.vocab.repair.repair import Problem, Repaired, repair_by_adding, repair_by_swapping
from bllossom.vocab.report import MergedVocabulary, choose_example, key_figures, measure, write_left_out, write_report
from bllossom.vocab.samples import locate_samples, read_samples

CROSSES = "crosses a border of the base's pre-tokenizer"
FORMER_EXAMPLE = "햄버거를 먹는 공룡"
FOREIGN = "holds a character that the base lacks, and that is no letter of the scripts"


class MergeVocabConfig(StageConfig):
    """What `bllossom merge-vocab` reads."""

    base: Annotated[
        Source,
        Field(description="vocabulary that keeps its ids: a folder, a .model or .json file, or a hub id"),
    ]
    donor: Annotated[
        OneDonor | list[OneDonor],
        Field(
            description="where new pieces come from: a folder, a .model or tokenizer.json file, a hub id, "
            "{text: files, pieces: number}, or a list of these"
        ),
    ]
    expected_size: Annotated[
        int | None, Field(gt=0, description="pieces that must come out; another result is refused")
    ] = None
    donor_filter: Annotated[
        Literal["all"] | list[str],
        Field(description="which donor pieces are taken: all, or those that hold a letter of these Unicode scripts"),
    ] = "all"
    repair: Annotated[
        Literal["none", "add", "swap"],
        Field(description="mend pieces that BPE cannot produce: not, with more pieces, or at the same size"),
    ] = "none"
    pad_to_multiple_of: Annotated[
        int, Field(gt=0, description="model rows are padded to a multiple of this; pieces are not")
    ] = 1
    use_padding_rows: Annotated[
        bool,
        AddedIn(2),
        Field(description="new ids begin in the rows that a byte-level base's model has beyond its tokenizer"),
    ] = False
    example: Annotated[
        str | None,
        Field(
            description="a sentence that the report shows in both tokenizers; null: the beginning of a document of "
            "samples, or of the donor's text, that the new pieces change"
        ),
    ] = None
    samples: Annotated[
        dict[str, list[InputGlob]],
        Field(description="text (files, folders, globs) by language: proof and report read it, swap counts on it"),
    ] = Field(default_factory=dict)

    def result_settings(self, *, mending: bool = False, paths: bool = False) -> dict[str, Any]:
        """No sentence is what manifests of before call by their default, whose place one of the samples took, too."""
        settings = super().result_settings(mending=mending, paths=paths)
        return settings | {"example": FORMER_EXAMPLE if self.example is None else self.example}


@dataclass(frozen=True)
class Selection:
    """What the donors give, as the base writes it."""

    pieces: list[str]
    """The pieces to add, in the donors' order."""
    left_out: dict[str, list[str]]
    """Pieces that cannot be added, by the reason."""
    likely: list[dict[str, float]]
    """Of each donor, how likely each of the pieces to add is."""


def merge_vocab(config: MergeVocabConfig, *, force: bool = False) -> Manifest:
    """Merge, repair or learn, write, prove, report, publish.

    Raises:
        BllossomError: an input is unusable, the size is not `expected_size`, or the proof fails on some text.
    """
    _check(config)
    base = open_base(config.base, use_padding_rows=config.use_padding_rows)
    _check_base(config, base)
    donors = [read_donor(find_donor(donor)) for donor in _donors(config) if isinstance(donor, str)]
    text = locate_samples({"text": text.text}, "donor") if (text := _text(config)) is not None else {}
    samples = locate_samples(config.samples)
    beside = files_beside(base.path, byte_level=isinstance(base, ByteLevelBase))
    inputs: dict[str, Path | str | None] = {"base": base.path, **beside}
    inputs |= {f"donor/{i}" if i else "donor": donor.path for i, donor in enumerate(donors)}
    inputs |= {f"text/{i}": path for i, path in enumerate(text.get("text", []))}
    inputs |= {f"samples/{name}/{i}": path for name, paths in samples.items() for i, path in enumerate(paths)}
    return publish(
        config,
        stage="merge-vocab",
        inputs=inputs,
        build=lambda folder: _build(config, base, donors, text.get("text", []), samples, folder),
        force=force,
        added_inputs=beside,
    )


def dry_run(config: MergeVocabConfig) -> list[str]:
    """Say what would come out, as far as the inputs are here."""
    _check(config)
    named = [("base", config.base), *(("donor", donor) for donor in _donors(config) if isinstance(donor, str))]
    absent = [f"{name} {source} is not here yet" for name, source in named if not Path(source).exists()]
    if absent:
        return absent
    base = open_base(config.base, use_padding_rows=config.use_padding_rows)
    _check_base(config, base)
    if (text := _text(config)) is not None:
        return [f"{base.first_new_id:,} ids of the base + {describe(text)}"]
    donors = [read_donor(find_donor(donor)) for donor in _donors(config) if isinstance(donor, str)]
    new = _select(config, base, donors).pieces
    size = base.first_new_id + len(new)
    of = sum(len(donor.likely) for donor in donors)
    lines = [f"{base.first_new_id:,} base pieces + {len(new):,} of the donor's {of:,} = {size:,}"]
    if config.repair == "none":
        _check_none(base, new)
        _check_size(config, base, len(new))
    if config.repair == "add":
        lines.append("repair: add puts the missing intermediate pieces on top")
    if config.repair == "swap":
        lines.append(
            f"repair: swap gives donor pieces up for intermediates, and keeps {config.expected_size or size:,}"
        )
    return lines


def _donors(config: MergeVocabConfig) -> list[OneDonor]:
    return config.donor if isinstance(config.donor, list) else [config.donor]


def _text(config: MergeVocabConfig) -> DonorText | None:
    return next((donor for donor in _donors(config) if isinstance(donor, DonorText)), None)


def _check(config: MergeVocabConfig) -> None:
    check_donors(_donors(config))
    if config.donor_filter != "all":
        check_scripts(config.donor_filter, "donor_filter")
    if config.repair == "swap" and not config.samples:
        raise ConfigError("samples: repair: swap gives up the pieces that are rarest on samples; name some text")
    if config.repair != "none" and _text(config) is not None:
        raise ConfigError("repair: pieces learned from text need none, each is joined from two; write repair: none")


def _check_base(config: MergeVocabConfig, base: Base) -> None:
    """Refuse keys that have no meaning for this family of bases, and a size that cannot come out."""
    text = _text(config)
    if isinstance(base, ByteLevelBase):
        if config.donor_filter == "all":
            base.allowed(None)  # says what to write
    elif text is not None:
        raise ConfigError(
            "donor: pieces are learned from text for byte-level bases; for a SentencePiece base train a donor with "
            "bllossom train-vocab (type: bpe, base: this one), and name its folder"
        )
    elif config.use_padding_rows:
        raise ConfigError("use_padding_rows: only byte-level bases may leave rows of their model free; take it out")
    size, own = config.expected_size, base.first_new_id
    if config.repair != "none" and size is not None and size <= own:
        raise ConfigError(f"expected_size: {size:,} is not above the base's {own:,} ids, which all stay; raise it")
    if text is not None and text.pieces != "auto":
        _check_size(config, base, text.pieces)


def _build(
    config: MergeVocabConfig,
    base: Base,
    donors: Sequence[Donor],
    text: Sequence[Path],
    samples: Mapping[str, Sequence[Path]],
    folder: Path,
) -> dict[str, Any]:
    vocabulary, curve = base.vocabulary, None
    selected = _select(config, base, donors) if donors else Selection([], {}, [])
    new = selected.pieces
    for donor, likely in zip(donors, selected.likely, strict=True):
        if not likely:
            say(f"merge-vocab: {donor.path} gives nothing: its pieces are in the base, or not to be taken")
    if config.repair == "none" and not text:  # nothing is read or written for what cannot be
        _check_none(base, new)
        _check_size(config, base, len(new))
    documents = read_samples(samples)
    words = {language: count_words(vocabulary, texts) for language, texts in documents.items()}
    scripts = None if config.donor_filter == "all" else config.donor_filter
    if (learned := _text(config)) is not None:
        repaired, curve = learn_from_text(base, text, learned.pieces, scripts, selected.likely)
    else:
        repaired = _repair(config, base, selected, sum(words.values(), Counter()))
    for reason, pieces in selected.left_out.items():
        repaired.left_out[reason] = pieces
    for reason, pieces in repaired.left_out.items():
        say(f"merge-vocab: {len(pieces):,} donor pieces left out: {reason} ({first_of(pieces)})")
    _check_size(config, base, len(repaired.pieces))
    extended = base.extend(repaired, scripts, folder, documents)
    merged, proof = extended.vocabulary, extended.proof
    say(f"merge-vocab: {len(merged.pieces):,} pieces, proved on {proof.texts:,} texts")
    named = [piece for donor in donors for piece in donor.pieces] or list(map(merged.read, repaired.pieces))
    merge = MergedVocabulary(vocabulary, named, merged, base.first_new_id, repaired)
    example = choose_example(merge, documents, text) if config.example is None else config.example
    report = measure(merge, documents, words, proof, example)
    write_report(folder, report | {"certificate": extended.certificate, "curve": curve})
    size = len(merged.pieces)
    write_left_out(folder, repaired.left_out)
    return {
        "pieces": size,
        "rows": -(-max(size, base.rows) // config.pad_to_multiple_of) * config.pad_to_multiple_of,
        "base_pieces": base.first_new_id,
        **key_figures(report),
    }


def _select(config: MergeVocabConfig, base: Base, donors: Sequence[Donor]) -> Selection:
    vocabulary, names = base.vocabulary, ", ".join(str(donor.path) for donor in donors)
    have, listed = set(vocabulary.pieces), list(dict.fromkeys(piece for donor in donors for piece in donor.pieces))
    if any(donor.path == base.path for donor in donors) or set(listed) >= set(map(vocabulary.read, have)):
        raise ConfigError(f"donor: {names} is the base itself; name another vocabulary")
    written = {piece: vocabulary.write(piece) for piece in listed}
    new = [piece for piece in listed if written[piece] not in have]
    if not new:
        raise ConfigError(f"donor: every piece of {names} is in the base already; name another vocabulary")
    if config.donor_filter != "all":
        new = [piece for piece in new if holds_script(piece, config.donor_filter)]
        if not new:
            scripts = ", ".join(config.donor_filter)
            raise ConfigError(f"donor_filter: no new piece of {names} holds {scripts}; change scripts or donor")
    crossing = [piece for piece in new if written[piece] is None]
    kept = list(dict.fromkeys(text for piece in new if (text := written[piece]) is not None))
    if not kept:
        raise ConfigError(f"donor: every new piece of {names} {CROSSES}; choose a donor made for this base, or text")
    foreign = _with_foreign_characters(base, kept, config.donor_filter)
    kept = [piece for piece in kept if piece not in foreign]
    if not kept:
        raise ConfigError(f"donor: every new piece of {names} {FOREIGN} ({first_of(sorted(foreign))})")
    likely = [_likely(donor, written, set(kept)) for donor in donors]
    left_out = {CROSSES: crossing, FOREIGN: [piece for piece in written if piece in foreign]}
    return Selection(kept, {reason: pieces for reason, pieces in left_out.items() if pieces}, likely)


def _likely(donor: Donor, written: Mapping[str, str | None], kept: set[str]) -> dict[str, float]:
    """How likely a donor's pieces are, as written: of two that the base's normaliser makes one, the likelier counts."""
    likely: dict[str, float] = {}
    for piece, chance in donor.likely.items():
        if (text := written[piece]) is not None and text in kept:
            likely[text] = max(chance, likely.get(text, 0.0))
    return likely


def _check_size(config: MergeVocabConfig, base: Base, new: int) -> None:
    size = base.first_new_id + new
    if config.expected_size not in (None, size) and config.repair != "swap":
        raise BllossomError(
            f"the merged vocabulary has {size:,} pieces ({base.first_new_id:,} + {new:,} new), not the expected "
            f"{config.expected_size:,}; check base, donor, donor_filter and repair, or set expected_size={size}"
        )


def _repair(config: MergeVocabConfig, base: Base, selected: Selection, words: Counter[str]) -> Repaired:
    new = selected.pieces
    lone = _lone_characters(base, new)
    if config.repair == "none":
        return Repaired(new, {piece: i for i, piece in enumerate(new)}, [], [])
    scripts = None if config.donor_filter == "all" else config.donor_filter
    if config.repair == "swap" and scripts is None:
        scripts = main_scripts(list(map(base.vocabulary.read, new)))
    allowed = base.allowed(scripts)
    knows: Vocabulary = base.with_letters([*lone, *(piece for piece in new if len(piece) == 1)])
    say(f"merge-vocab: repairing ({config.repair}), counting on {len(words):,} different words")
    atoms = count_atoms(knows, words or _donor_words(base.vocabulary, selected))
    problem = Problem([*new, *lone], base.vocabulary.spell, atoms, allowed, base.vocabulary.is_whole)
    if config.repair == "add":
        return repair_by_adding(problem)
    places = (config.expected_size or base.first_new_id + len(new)) - base.first_new_id
    return repair_by_swapping(problem, [piece for piece in problem.donor if allowed(piece)], places, base.first_new_id)


def _lone_characters(base: Base, new: Sequence[str]) -> list[str]:
    """The characters of new pieces that are no pieces themselves."""
    return sorted({character for piece in new for character in piece} - set(base.vocabulary.pieces) - set(new))


def _with_foreign_characters(base: Base, new: Sequence[str], scripts: Literal["all"] | list[str]) -> set[str]:
    """The pieces with a character that the base lacks and that is not the scripts' own: it would become a piece, and
    text of other scripts that holds it (ZWNJ, an Arabic comma) would get other ids."""
    if scripts == "all" or isinstance(base, ByteLevelBase):  # whose characters are bytes, never pieces to be added
        return set()
    allowed = base.allowed(scripts)
    foreign = {character for character in _lone_characters(base, new) if not allowed(character)}
    return {piece for piece in new if foreign.intersection(piece)}


def _check_none(base: Base, new: Sequence[str]) -> None:
    """Refuse pieces that need repair before they can be written at all."""
    if isinstance(base, ByteLevelBase):
        raise ConfigError(
            "repair: none: nothing would make a list's pieces on a byte-level base, whose merges name pairs; use add "
            "or swap, or learn pieces with donor: {text: …, pieces: …}"
        )
    if lone := _lone_characters(base, new):
        raise BllossomError(
            f"donor pieces hold {lone[0]!r}, which is no piece itself: SentencePiece could make them, "
            "tokenizer.json could not; use repair: add"
        )


def _donor_words(vocabulary: Vocabulary, selected: Selection) -> Counter[str]:
    """Without samples: the donors' pieces as words, as often as they are likely."""
    likely = {piece: chance for donor in reversed(selected.likely) for piece, chance in donor.items()}
    words = [piece for piece in selected.pieces if vocabulary.read(piece).startswith("▁")]
    return Counter({piece: 1 + round(likely[piece] * 1e6) for piece in words})
