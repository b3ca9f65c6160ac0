"""Conversations to examples: what is too long, what cannot be used, what carries loss."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.dataset import Examples, epoch_order, make_examples, tell
from bllossom.instructions.formats.choose import chat_format
from bllossom.instructions.formats.format import ChatFormat
from bllossom.instructions.messages import Conversation, conversation
from bllossom.instructions.reading import Instructions

SHORT = conversation([("user", "수도는?"), ("assistant", "서울")], source="a:1")
LONG_ANSWER = conversation([("user", "Count."), ("assistant", "one two three " * 20)], source="a:2")
LONG_QUESTION = conversation([("user", "Count: " + "one two three " * 20), ("assistant", "No.")], source="a:3")
TURNS = [("system", "Be brief."), *[("user", "Count the cows."), ("assistant", "one two three")] * 5]
MANY_TURNS = conversation(TURNS, source="a:4")


@pytest.fixture
def chat(byte_level: PreTrainedTokenizerFast) -> ChatFormat:
    return chat_format("llama3", byte_level)


def make(chat: ChatFormat, conversations: list[Conversation], max_tokens: int = 512, **more: str) -> Examples:
    return make_examples(Instructions(conversations, [], 0), chat, max_tokens, **more)  # type: ignore[arg-type]


def test_too_long_examples_are_dropped_cut_or_refused_as_asked_and_listed(chat: ChatFormat) -> None:
    found = [SHORT, LONG_ANSWER, LONG_QUESTION]
    dropped = make(chat, found, 60, too_long="drop")
    assert [example.source for example in dropped.items] == ["a:1"]
    assert dropped.figures()["dropped"] == 2
    assert [(entry.source, entry.action) for entry in dropped.too_long] == [("a:2", "dropped"), ("a:3", "dropped")]

    cut = make(chat, found, 60, too_long="cut")
    assert [entry.action for entry in cut.too_long] == ["cut", "dropped"]  # the question alone fills 60 tokens
    assert [len(example.ids) for example in cut.items] == [len(dropped.items[0].ids), 60]
    assert chat.end_ids[0] not in cut.items[1].ids[cut.items[1].supervised]
    figures = cut.figures()
    assert figures["tokens"] == sum(len(example.ids) for example in cut.items)
    assert figures["supervised_tokens_per_epoch"] == sum(example.supervised.sum() for example in cut.items)

    with pytest.raises(BllossomError, match=r"a:2: .* tokens, more than max_tokens, 60; raise it"):
        make(chat, found, 60, too_long="refuse")
    with pytest.raises(BllossomError, match="no example is left: 3 have more than 4 tokens"):
        make(chat, found, 4, too_long="cut")


def test_splitting_loses_no_answer_and_keeps_the_system_message(chat: ChatFormat) -> None:
    whole = make(chat, [MANY_TURNS]).items[0]
    limit = len(whole.ids) * 3 // 4
    split = make(chat, [MANY_TURNS], limit, too_long="split")
    assert [entry.action for entry in split.too_long] == ["split"]
    assert len(split.items) == 2
    assert all(len(example.ids) <= limit for example in split.items)
    learned = [example.ids[example.supervised].tolist() for example in (*split.items, whole)]
    assert learned[0] + learned[1] == learned[2]
    begun = [example.ids[:12].tolist() for example in split.items]
    assert begun[0] == begun[1] == whole.ids[:12].tolist()
    # A turn that does not fit alone is left out; the others are kept.
    mixed = conversation([("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d " * 300)], source="a:5")
    assert [len(example.ids) < 40 for example in make(chat, [mixed], 100, too_long="split").items] == [True]
    assert make(chat, [SHORT, LONG_ANSWER], 40, too_long="split").figures()["dropped"] == 1


def test_loss_on_outputs_or_on_all(chat: ChatFormat) -> None:
    found = make(chat, [SHORT], train_on="all")
    [outputs], [everything] = make(chat, [SHORT]).items, found.items
    assert everything.supervised.tolist() == [False, *[True] * (len(everything.ids) - 1)]
    assert found.figures()["supervised_tokens_per_epoch"] == len(everything.ids) - 1  # nothing predicts the first
    assert 0 < outputs.supervised.sum() < len(outputs.ids)
    assert outputs.ids.tolist() == everything.ids.tolist()


def test_a_conversation_that_the_template_refuses_is_named_or_skipped(
    byte_level: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = tmp_path / "no-system.jinja"
    path.write_text(
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    chat = chat_format(path, byte_level)
    with pytest.raises(BllossomError, match=r"a:4: template .* refuses it \(no system\).*; or set on_error: skip"):
        make(chat, [SHORT, MANY_TURNS])
    found = make(chat, [SHORT, MANY_TURNS], on_error="skip")
    assert [skipped.source for skipped in found.skipped] == ["a:4"]
    assert found.figures()["skipped"] == 1


def test_what_is_trimmed_is_said(chat: ChatFormat, capsys: pytest.CaptureFixture[str]) -> None:
    examples = make(chat, [SHORT, LONG_ANSWER])
    tell(examples, chat)
    assert "1 examples had white space at a message's edges, which format llama3 trims" in capsys.readouterr().err
    assert examples.figures()["trimmed"] == 1


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first = epoch_order(100, seed=1, epoch=0)
    assert sorted(first.tolist()) == list(range(100))
    assert first.tolist() == epoch_order(100, seed=1, epoch=0).tolist()
    others = [epoch_order(100, seed=1, epoch=1), epoch_order(100, seed=2, epoch=0), epoch_order(100, seed=0, epoch=1)]
    assert len({tuple(order.tolist()) for order in [first, *others]}) == 4


def test_arrays_are_what_training_takes(chat: ChatFormat) -> None:
    [example] = make(chat, [SHORT]).items
    assert example.ids.dtype == np.int64
    assert example.supervised.dtype == np.bool_
