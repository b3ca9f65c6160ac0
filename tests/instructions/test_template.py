"""The chat format against the chat template, and its mask."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.template import CHAT_TEMPLATE, as_messages, check_tokenizer, encode_conversation

pytestmark = pytest.mark.real_data

# Anything a person may write, special tokens spelled out included.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.sampled_from(
        ["</s>", "a </s> b", "<s><s>", "서울 </s>\nAssistant: no", "  두 칸 ", "\n", "User: x\nAssistant:"]
    ),
)
TURNS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4)
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(turns=TURNS)
def test_one_bos_and_one_supervised_eos_after_each_answer(
    tokenizer: PreTrainedTokenizerFast, turns: list[tuple[str, str]]
) -> None:
    tokens = encode_conversation(tokenizer, turns)
    assert len(tokens.ids) == len(tokens.supervised)
    assert [position for position, id_ in enumerate(tokens.ids) if id_ == tokenizer.bos_token_id] == [0]
    ends = [position for position, id_ in enumerate(tokens.ids) if id_ == tokenizer.eos_token_id]
    assert len(ends) == len(turns)
    assert ends[-1] == len(tokens.ids) - 1
    assert all(tokens.supervised[end] for end in ends)


@MANY
@given(turns=TURNS)
def test_supervised_tokens_spell_the_answers_and_the_rest_spells_the_questions(
    tokenizer: PreTrainedTokenizerFast, turns: list[tuple[str, str]]
) -> None:
    tokens = encode_conversation(tokenizer, turns)
    spans: list[tuple[bool, list[int]]] = []
    for id_, supervised in zip(tokens.ids[1:], tokens.supervised[1:], strict=True):
        if not spans or spans[-1][0] != supervised:
            spans.append((supervised, []))
        spans[-1][1].append(id_)

    def spelled(ids: list[int]) -> str:
        return tokenizer.backend_tokenizer.decoder.decode(tokenizer.convert_ids_to_tokens(ids))

    expected = [
        (supervised, text)
        for question, answer in turns
        for supervised, text in ((False, f"User: {question}\nAssistant:"), (True, f"{answer}</s>"))
    ]
    # SentencePiece's own space mark, U+2581, decodes to a space: it cannot be told from one.
    assert [(supervised, spelled(ids)) for supervised, ids in spans] == [
        (supervised, text.replace("▁", " ")) for supervised, text in expected
    ]


def test_the_chat_template_gives_the_tokens_that_training_sees(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [
        ("  Two spaces, 한국어\n와 줄바꿈", "답입니다. "),
        ("Why?", " Because.\n\n- 하나"),
        ("", "햄버거를 먹는 공룡"),
    ]
    rendered = tokenizer.apply_chat_template(as_messages(turns), chat_template=CHAT_TEMPLATE, tokenize=False)
    assert tokenizer.encode(rendered, add_special_tokens=False) == encode_conversation(tokenizer, turns).ids


def test_the_prompt_for_an_answer_is_a_prefix_of_the_training_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [("Where is Seoul?", "In Korea."), ("부산은?", "한국에 있습니다.")]
    prompt = tokenizer.apply_chat_template(as_messages(turns)[:-1], chat_template=CHAT_TEMPLATE, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    whole = encode_conversation(tokenizer, turns)
    assert whole.ids[: len(ids)] == ids
    assert whole.supervised[len(ids) - 1 : len(ids) + 1] == [False, True]


def test_turns_out_of_order_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    wrong = [{"role": "assistant", "content": "hello"}]
    with pytest.raises(Exception, match="user, assistant, user"):
        tokenizer.apply_chat_template(wrong, chat_template=CHAT_TEMPLATE, tokenize=False)


def test_a_tokenizer_that_training_and_chatting_would_read_differently_is_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    check_tokenizer(tokenizer)
    byte_level = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[])
    )
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    other = PreTrainedTokenizerFast(tokenizer_object=byte_level, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    with pytest.raises(BllossomError, match="use a tokenizer that puts a space"):
        check_tokenizer(other)
    with pytest.raises(BllossomError, match="no BOS or no EOS"):
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_level))
