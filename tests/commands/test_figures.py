"""What a stage prints at its end."""

from bllossom.commands.figures import show


def test_numbers_are_for_people() -> None:
    figures = {
        "pieces": 39478,
        "unigram_bits_per_byte": {"en": 1.0105081981547603},
        "tokens_per_word": {"ko": {"base": 6.2789, "merged": 2.5822}, "en": {"base": 1.4, "merged": None}},
        "bytes": 10129.688953068591,
        "encoders": ["gigatoken"],
        "tied": False,
        "dropped": {},
        "sources": {"ko/news": {"documents": 1300, "heldout": {"documents": 3, "tokens": 12836}, "dropped": {}}},
    }
    assert show(figures) == "\n".join(
        [
            "pieces: 39,478",
            "unigram_bits_per_byte: en 1.011",
            "tokens_per_word:",
            "  ko: base 6.279, merged 2.582",
            "  en: base 1.4, merged –",
            "bytes: 10,130",
            "encoders: gigatoken",
            "tied: no",
            "dropped: none",
            "sources:",
            "  ko/news: documents 1,300, heldout (documents 3, tokens 12,836), dropped (none)",
        ]
    )
