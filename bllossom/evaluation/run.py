"""One evaluation at work in its partial folder, task by task: what is done is kept, and not done again after a kill."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bllossom.console import progress
from bllossom.errors import Stopped
from bllossom.evaluation.heldout import bits_per_byte
from bllossom.evaluation.samples import ask, figured, lines
from bllossom.evaluation.scoring.backend import Backend
from bllossom.evaluation.scoring.lm import BllossomLM, Encoding
from bllossom.evaluation.tasks.build import Ready
from bllossom.evaluation.tasks.definitions import file_name
from bllossom.provenance.manifest import LOGS
from bllossom.ranks.lifetime import stop_requests
from bllossom.ranks.ranks import Ranks

DONE = f"{LOGS}/done"  # each task's results: what a killed run goes on from, at whatever point it was killed
SAMPLES = "samples"
COUNTS = ("truncated", "chat_specials", "chat_without_system")  # of BllossomLM

Move = Callable[[float], None]


@dataclass(frozen=True)
class Run:
    """A model, how it is asked, and the folder that takes what it answers.

    Every rank asks everything, so that each has the same requests to share; rank 0 alone writes.
    """

    folder: Path
    scorer: Backend
    tokenizer: PreTrainedTokenizerFast
    encoding: Encoding
    chat: bool
    seed: int
    ranks: Ranks

    def score(
        self, tasks: Mapping[str, Ready], documents: Mapping[str, list[str]], check_stop: Callable[[], None]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The figures of held-out text by language, and lm-eval's results of each task with figures and counts.

        On other ranks than the first, both are without figures. `check_stop` is called after each batch.
        """
        if self.ranks.first:
            for name in (DONE, SAMPLES):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        measured, asked = {}, {}
        rows = sum(map(len, documents.values())) + sum(ready.limit for ready in tasks.values())
        with progress("eval", total=rows) if self.ranks.first else nullcontext(_silent) as advance:
            for language, texts in documents.items():
                name = f"heldout_{language}"
                move = _meter(advance, len(texts), name, check_stop)
                measured[language] = self._once(name, len(texts), {}, advance, lambda: self._measure(name, texts, move))  # noqa: B023 called at once
            for name, ready in tasks.items():
                move = _meter(advance, ready.limit, name, check_stop)
                of = {"rows": ready.limit, **ready.figures()}
                asked[name] = self._once(name, ready.limit, of, advance, lambda: self._ask(name, ready, move))  # noqa: B023
        return measured, asked

    def _measure(self, name: str, texts: list[str], move: Move) -> dict[str, Any]:
        held = bits_per_byte(self.scorer, self.tokenizer, texts, move)
        self._write_samples(name, "".join(json.dumps(sample) + "\n" for sample in held.samples))
        return held.figures() | {"dtype": self.scorer.dtype}

    def _ask(self, name: str, ready: Ready, move: Move) -> dict[str, Any]:
        lm = BllossomLM(self.scorer, self.tokenizer, self.encoding, chat=self.chat, advance=move)
        results, samples = ask(ready, lm, chat=self.chat)
        if not self.ranks.first:
            return {}
        results["figures"] = figured(ready, results, samples, self.seed)
        self._write_samples(name, lines(samples))
        for settings in results["configs"].values():
            settings.pop("custom_dataset", None)  # the function that holds the rows: of this run alone
        counts = {name: getattr(lm, name) for name in COUNTS}
        return results | {"counts": counts, "dtype": self.scorer.dtype}

    def _once(
        self,
        name: str,
        rows: int,
        of: Mapping[str, Any],
        advance: Callable[..., None],
        work: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """The result of `work`, or what an earlier try kept of it, `of` the same. As JSON gives it back, either way."""
        path = self.folder / DONE / f"{file_name(name)}.json"
        done = self.ranks.from_first(self.ranks.first and path.is_file() and _is_of(path, of))
        if not self.ranks.first:
            return {} if done else work()
        if done:
            advance(rows, name)
        else:
            beside = path.with_suffix(".tmp")
            beside.write_text(json.dumps(work(), ensure_ascii=False, default=str), encoding="utf8")
            beside.rename(path)
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        return kept

    def _write_samples(self, name: str, text: str) -> None:
        if self.ranks.first:
            (self.folder / SAMPLES / f"{file_name(name)}.jsonl").write_text(text, encoding="utf8")


@contextmanager
def stopping(ranks: Ranks) -> Iterator[Callable[[], None]]:
    """Yield what ends this rank, when called, if somebody has asked to stop.

    A process that works alone is ended by its command's own handlers. Ranks are ended by their launcher, each where it
    stands, and those that wait for one that has ended meet a lost connection.
    """
    if ranks.world == 1:
        yield lambda: None
        return
    with stop_requests() as asked:

        def check() -> None:
            if asked():
                raise Stopped

        try:
            yield check
        except Exception:
            check()
            raise


def _is_of(path: Path, of: Mapping[str, Any]) -> bool:
    """Whether figures depend on the same: an earlier version may have counted rows and drawn examples otherwise."""
    figures = json.loads(path.read_text(encoding="utf8")).get("figures", {})
    return of.items() <= figures.items()


def _silent(steps: int, note: str = "") -> None:
    """The progress of other ranks than the first."""


def _meter(advance: Callable[..., None], rows: int, name: str, check_stop: Callable[[], None]) -> Move:
    """Tell the one progress line, which counts rows, of shares of `rows`; and look whether to stop."""
    done, told = 0.0, 0

    def move(share: float) -> None:
        nonlocal done, told
        check_stop()
        done += share * rows
        steps = min(round(done), rows) - told
        told += steps
        advance(steps, name)

    return move
