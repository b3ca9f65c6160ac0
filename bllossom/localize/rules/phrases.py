"""refusal and wordplay: what a translator says in its own name, and what no translation can carry."""

import regex

from bllossom.localize.rules.reading import Mark, Marks, Reading


def check(reading: Reading) -> Marks:
    """Both. The prompt itself in an answer is the translator's own speech, too."""
    source = reading.passage.source
    echo = next(
        (line for line in reading.passage.prompt.splitlines() if len(line) >= 30 and line in reading.target), ""
    )
    if echo:
        start = reading.target.index(echo)
        yield Mark("refusal", "error", (start, start + len(echo)), {"found": echo[:40]})
        return
    for refusal in reading.language.refusals:
        match = regex.search(refusal.target, reading.target, regex.MULTILINE)
        if match and not regex.search(refusal.source, source, regex.IGNORECASE):
            yield Mark("refusal", "error", match.span(), {"found": match[0].strip()})
            break
    if reading.passage.role != "user":
        return
    for pattern in reading.source_language.wordplay:
        if match := regex.search(pattern, source, regex.IGNORECASE):
            yield Mark("wordplay", "warning", None, {"found": match[0]})
            break
