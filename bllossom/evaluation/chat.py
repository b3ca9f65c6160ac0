"""chat: talk with a model in a terminal, or with two of them side by side; in a pipe a question a line.

The model's own chat format builds the ids, so that what is typed never becomes a control token. Ctrl-C ends an answer
and keeps what came of it; at the prompt, /quit or Ctrl-D ends the program.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from bllossom.config import named_path
from bllossom.errors import BllossomError
from bllossom.evaluation.answers.model import AnswerModel, format_choice
from bllossom.instructions.messages import is_blank
from bllossom.model.outputs.generate import Decoding, Prompt, generate, stop_ids

HELP = (
    "/system TEXT tells the model first and begins anew, /reset begins anew, /save FILE, /quit; Ctrl-C ends an answer"
)


@dataclass(frozen=True)
class ChatSettings:
    """How answers are made."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int


@dataclass
class Talk:
    """One model, and what was said with it."""

    name: str
    model: AnswerModel
    settings: ChatSettings
    messages: list[dict[str, str]] = field(default_factory=list)

    def begin(self, system: str) -> None:
        """Forget what was said."""
        self.messages = [{"role": "system", "content": system}] if system else []

    def ask(self, question: str, on_text: Callable[[str], None] = lambda text: None, *, cut: bool = True) -> str:
        """The answer; `on_text` gets it as far as it has come. Ctrl-C ends it there, unless `cut` is false.

        Raises:
            BllossomError: the format has no place for the conversation, or it fills the model's window.
        """
        asked = [*self.messages, {"role": "user", "content": question}]
        ids = self.model.encode(asked)
        if len(ids) >= self.model.window:
            raise BllossomError(
                f"{self.name}: the conversation has {len(ids):,} tokens and the model a window of "
                f"{self.model.window:,}; ask for less, or type /reset"
            )
        said: list[int] = []

        def hear(_: int, token: int) -> None:
            said.append(token)
            on_text(self._text(said))

        stops = stop_ids(self.model.model, self.model.tokenizer) | set(self.model.form.end_ids)
        decoding = Decoding(self.settings.max_tokens, self.settings.temperature, self.settings.top_p, stops)
        prompts = [Prompt(ids, self.settings.seed)]
        with contextlib.suppress(KeyboardInterrupt) if cut else contextlib.nullcontext():  # what came is the answer
            list(generate(self.model.model, self.model.tokenizer, prompts, decoding, batch_size=1, on_token=hear))
        answer = self._text(said)
        if not is_blank(answer):  # a question without an answer has no place in the format
            self.messages = [*asked, {"role": "assistant", "content": answer}]
        return answer

    def _text(self, ids: list[int]) -> str:
        text = self.model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip().rstrip("\ufffd")  # the first bytes of a character whose others are still to come


def load_talks(sources: Sequence[str], settings: ChatSettings, template: str | None = None) -> list[Talk]:
    """A talk with each model, not yet begun: folders, adapters' folders, hub ids; in their own formats, or `template`.

    Raises:
        BllossomError: a model does not load, or has no chat format.
    """
    form = format_choice(template)
    return [Talk(source, AnswerModel.load(source, form, "auto"), settings) for source in sources]


def answer_lines(lines: Iterable[str], talks: Sequence[Talk], system: str, emit: Callable[[str], None]) -> None:
    """Answer one question a line, each on its own, as one JSON a line and model.

    One that cannot be asked has `error` for `answer`, and the others are answered.

    Raises:
        BllossomError: at the end, where there were such.
    """
    failed = 0
    for line in lines:
        question = line.strip()
        for talk in talks if question else ():
            talk.begin(system)
            try:
                said = {"answer": talk.ask(question, cut=False)}
            except BllossomError as error:
                said, failed = {"error": str(error)}, failed + 1
            record = json.dumps({"model": talk.name, "prompt": question, **said}, ensure_ascii=False)
            emit(record.encode("utf-8", "backslashreplace").decode())  # bytes that are no UTF-8, escaped as JSON does
    if failed:
        raise BllossomError(f"{failed:,} questions have no answer; their lines say under error what to change")


def converse(talks: Sequence[Talk], system: str, read: Callable[[str], str], console: Console) -> None:
    """Talk until /quit or the end of input. `read` gives the next line, as input() does."""
    for talk in talks:
        talk.begin(system)
    console.print(Text(HELP, "dim"))
    while True:
        try:
            line = read("> ").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            continue  # a line that is given up, not the program
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                system = _command(line, talks, system, console)
            elif line:
                _show(talks, line, console)
        except BllossomError as error:
            console.print(Text(f"error: {error}", "red"))


def _command(line: str, talks: Sequence[Talk], system: str, console: Console) -> str:
    """Do what a line that begins with / says; gives the system message that holds from then on."""
    name, _, rest = line.partition(" ")
    if name == "/system" or name == "/reset":
        system = rest.strip() if name == "/system" else system
        for talk in talks:
            talk.begin(system)
    elif name == "/save" and rest.strip():
        _save(named_path(rest.strip()), talks)
        console.print(Text(f"saved in {rest.strip()}", "dim"))
    else:
        raise BllossomError(f"there is no command {line!r}; {HELP}")
    return system


def _save(path: Path, talks: Sequence[Talk]) -> None:
    """A conversation a line, in the shape that sft reads."""
    lines = [json.dumps({"model": talk.name, "messages": talk.messages}, ensure_ascii=False) + "\n" for talk in talks]
    try:
        path.write_text("".join(lines), encoding="utf8")
    except OSError as error:
        raise BllossomError(f"{path} cannot be written ({error.strerror}); name another file") from error


def _show(talks: Sequence[Talk], question: str, console: Console) -> None:
    """Stream the answers: one model's plainly, those of several beside each other."""
    if len(talks) == 1:
        shown = 0

        def write(text: str) -> None:
            nonlocal shown
            console.print(Text(text[shown:]), end="", soft_wrap=True)
            shown = max(shown, len(text))

        talks[0].ask(question, write)
        console.print()
        return
    texts = [""] * len(talks)
    with Live(console=console, refresh_per_second=8) as live:
        for number, talk in enumerate(talks):

            def update(text: str, number: int = number) -> None:
                texts[number] = text
                panels = [Panel(Text(each), title=other.name) for each, other in zip(texts, talks, strict=True)]
                live.update(Columns(panels, equal=True, expand=True))

            talk.ask(question, update)
