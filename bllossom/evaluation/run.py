"""One evaluation at work in its partial folder, task by task: what is done is kept, and not done again after a kill."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bllossom.console import progress
from bllossom.evaluation.heldout import bits_per_byte
from bllossom.evaluation.samples import ask, lines
from bllossom.evaluation.scoring.lm import BllossomLM, Encoding
from bllossom.evaluation.scoring.scorer import Scorer
from bllossom.evaluation.tasks.build import Ready

DONE = "done"  # in the partial folder, until all is there: each task's results
SAMPLES = "samples"

Move = Callable[[float], None]


@dataclass(frozen=True)
class Run:
    """A model, how it is asked, and the folder that takes what it answers."""

    folder: Path
    scorer: Scorer
    tokenizer: PreTrainedTokenizerFast
    encoding: Encoding
    chat: bool
    seed: int

    def score(
        self, tasks: Mapping[str, Ready], documents: Mapping[str, list[str]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The figures of held-out text by language, and lm-eval's results of each task with figures and counts."""
        for name in (DONE, SAMPLES):
            (self.folder / name).mkdir(exist_ok=True)
        measured, asked = {}, {}
        rows = sum(map(len, documents.values())) + sum(ready.limit for ready in tasks.values())
        with progress("eval", total=rows) as advance:
            for language, texts in documents.items():
                name = f"heldout_{language}"
                move = _meter(advance, 1, len(texts), name)
                measured[language] = self._once(name, len(texts), advance, lambda: self._measure(name, texts, move))  # noqa: B023 called at once
            for name, ready in tasks.items():
                move = _meter(advance, ready.limit, ready.limit, name)
                asked[name] = self._once(name, ready.limit, advance, lambda: self._ask(name, ready, move))  # noqa: B023
        return measured, asked

    def _measure(self, name: str, texts: list[str], move: Move) -> dict[str, Any]:
        held = bits_per_byte(self.scorer, self.tokenizer, texts, move)
        self._write_samples(name, "".join(json.dumps(sample) + "\n" for sample in held.samples))
        return held.figures()

    def _ask(self, name: str, ready: Ready, move: Move) -> dict[str, Any]:
        lm = BllossomLM(self.scorer, self.tokenizer, self.encoding, chat=self.chat, advance=move)
        results, samples = ask(ready, lm, chat=self.chat, seed=self.seed)
        self._write_samples(name, lines(samples))
        for settings in results["configs"].values():
            settings.pop("custom_dataset", None)  # the function that holds the rows: of this run alone
        return results | {"counts": {"truncated": lm.truncated, "chat_specials": lm.chat_specials}}

    def _once(
        self, name: str, rows: int, advance: Callable[..., None], work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result of `work`, or what an earlier try kept of it. As JSON gives it back, either way."""
        path = self.folder / DONE / f"{file_name(name)}.json"
        if path.is_file():
            advance(rows, name)
        else:
            beside = path.with_suffix(".tmp")
            beside.write_text(json.dumps(work(), ensure_ascii=False, default=str), encoding="utf8")
            beside.rename(path)
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        return kept

    def _write_samples(self, name: str, text: str) -> None:
        (self.folder / SAMPLES / f"{file_name(name)}.jsonl").write_text(text, encoding="utf8")


def file_name(task: str) -> str:
    """A task's name in file names."""
    return task.replace(":", "_").replace("/", "_")


def _meter(advance: Callable[..., None], unit: float, rows: int, name: str) -> Move:
    """Tell the one progress line, which counts rows, of work done in units of `unit` rows."""
    done, told = 0.0, 0

    def move(units: float) -> None:
        nonlocal done, told
        done += units * unit
        steps = min(round(done), rows) - told
        told += steps
        advance(steps, name)

    return move
