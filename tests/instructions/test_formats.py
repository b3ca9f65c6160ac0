"""Every chat format on every kind of tokenizer: the ids of its template, and a mask on the answers alone."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.formats.choose import chat_format
from bllossom.instructions.formats.format import ChatFormat, Example
from bllossom.instructions.messages import Conversation, Message, UnusableError, conversation

FITTING = {
    "tokenizer": ("plain", "lima", "llama2"),
    "merged": ("plain", "lima", "llama2"),
    "byte_level": ("plain", "lima", "llama2", "llama3", "chatml"),
}
REAL = {"tokenizer", "merged"}
CASES = [
    pytest.param(kind, name, marks=[pytest.mark.real_data] if kind in REAL else [], id=f"{kind}-{name}")
    for kind, names in FITTING.items()
    for name in names
]
TURNS = [
    ("system", "한국어로 답하세요. "),
    ("user", " 2 + 2?\n"),
    ("assistant", "\n4입니다.  "),
    ("user", "Why?"),
    ("assistant", "Because\n\n- 하나 **둘** 셋"),
]
SPECIALS = [
    "</s>",
    "<s>",
    "[INST]",
    "<|im_end|>",
    "<|eot_id|>",
    "a<|im_start|>system\nb",
    "<<s>s>",
    "</s",
    "|>",
    "<unk>",
]
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Z"]), min_size=1, max_size=30),
    st.lists(st.sampled_from([*SPECIALS, " ", "서울", "x"]), min_size=1, max_size=5).map("".join).filter(str.strip),
)


def template_ids(
    tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, made: Conversation, *, prompt: bool
) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        made.as_dicts(), chat_template=chat.template, add_generation_prompt=prompt, return_dict=False
    )
    return ids


def spelled(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.backend_tokenizer.decode(ids, skip_special_tokens=False))


def check(tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, made: Conversation) -> Example:
    """The ids are those of the template; the prompt is their very prefix; one BOS; each answer's end is supervised."""
    example = chat.encode(made)
    ids = example.ids.tolist()
    assert ids == template_ids(tokenizer, chat, made, prompt=False), made.source
    assert chat.prompt(made.prompt()) == template_ids(tokenizer, chat, made.prompt(), prompt=True), made.source
    check_mask(tokenizer, chat, made, example)
    return example


def check_mask(tokenizer: PreTrainedTokenizerFast, chat: ChatFormat, made: Conversation, example: Example) -> None:
    ids, answers = example.ids.tolist(), [m for m in made.messages if m.role == "assistant"]
    prompt = chat.prompt(made.prompt())
    assert ids[: len(prompt)] == prompt
    assert example.supervised[len(prompt) - 1 : len(prompt) + 1].tolist() == [False, True]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert example.straddling == 0
    [end] = chat.end_ids
    supervised = example.ids[example.supervised].tolist()
    assert supervised.count(end) == len(answers)
    assert supervised[-1] == end


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_ids_and_mask_of_every_format(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    chat = chat_format(name, tokenizer)
    for turns in (TURNS, TURNS[1:], TURNS[:3]):
        made = conversation(turns)
        example = check(tokenizer, chat, made)
        assert example.trimmed
        text = spelled(tokenizer, example.ids[example.supervised].tolist())
        end = tokenizer.convert_ids_to_tokens(chat.end_ids[0])
        answers = [message.content.strip() for message in made.messages if message.role == "assistant"]
        assert [part.strip() for part in text.split(end)] == [*answers, ""]
        rest = spelled(tokenizer, example.ids[~example.supervised].tolist())
        assert all(message.content.strip() in rest for message in made.messages if message.role != "assistant")


@pytest.mark.real_data
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_some_real_dialogues(
    kind: str, name: str, request: pytest.FixtureRequest, dialogues: list[Conversation]
) -> None:
    tokenizer = request.getfixturevalue(kind)
    chat = chat_format(name, tokenizer)
    for made in dialogues[::90]:
        check(tokenizer, chat, made)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_real_dialogue(
    kind: str, name: str, request: pytest.FixtureRequest, dialogues: list[Conversation], tmp_path: Path
) -> None:
    tokenizer = request.getfixturevalue(kind)
    chat = chat_format(name, tokenizer)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(chat.template, encoding="utf8")
    published = AutoTokenizer.from_pretrained(tmp_path)  # as everybody else loads it
    assert published.chat_template == chat.template
    trimmed = sum(check(published, chat, made).trimmed for made in dialogues[:1029])
    assert trimmed == 327  # of these 289 in an answer
    for made in dialogues[1029:]:
        check(published, chat, made)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_a_message_says_never_becomes_a_control_id(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    chat = chat_format(name, tokenizer)
    controls = set(tokenizer.added_tokens_decoder)

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(question=TEXT, answer=TEXT, system=TEXT)
    def run(question: str, answer: str, system: str) -> None:
        turns = [Message("system", system), Message("user", question), Message("assistant", answer)]
        hostile, harmless = Conversation(tuple(turns)), Conversation(tuple(Message(turn.role, "x") for turn in turns))
        example, plain = chat.encode(hostile), chat.encode(harmless)
        assert [i for i in example.ids.tolist() if i in controls] == [i for i in plain.ids.tolist() if i in controls]
        check_mask(tokenizer, chat, hostile, example)
        # Nothing is lost: U+2581 alone, SentencePiece's own space, cannot be told from one.
        text = spelled(tokenizer, example.ids.tolist()).replace("▁", " ")
        for said in (question, answer, system):
            assert said.strip().replace("▁", " ").strip() in text

    run()


@pytest.mark.parametrize("name", ["plain", "lima"])
@pytest.mark.parametrize(
    ("answer", "unknown"), [("It is </s> text.", 0), ("</s>", 0), ("<unk>It</s>", 0), ("It 한 is </s> text.", 1)]
)
def test_without_byte_fallback_the_text_of_a_control_is_its_characters(
    word_pieces: PreTrainedTokenizerFast, name: str, answer: str, unknown: int
) -> None:
    chat = chat_format(name, word_pieces)
    example = chat.encode(conversation([("user", "Where is </s>?"), ("assistant", answer)]))
    assert example.ids.tolist().count(word_pieces.unk_token_id) == unknown
    alone = word_pieces(f" {answer}", split_special_tokens=True, add_special_tokens=False)["input_ids"]
    *learned, end = example.ids[example.supervised].tolist()
    assert spelled(word_pieces, learned).strip() == spelled(word_pieces, alone).strip()
    assert end == word_pieces.eos_token_id
    ends = {"plain": 1, "lima": 2}[name]
    assert example.ids.tolist().count(word_pieces.eos_token_id) == ends


@pytest.mark.real_data
def test_a_format_whose_pieces_are_not_there_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    for name in ("chatml", "llama3"):
        with pytest.raises(BllossomError, match=r"which the tokenizer does not have; set template to plain or lima"):
            chat_format(name, tokenizer)
    with pytest.raises(BllossomError, match="no chat template of its own; set template to plain, lima, llama2"):
        chat_format(None, tokenizer)


def test_a_tokenizer_without_bos_gets_none(byte_level: PreTrainedTokenizerFast) -> None:
    without = PreTrainedTokenizerFast(tokenizer_object=byte_level.backend_tokenizer, eos_token="<|im_end|>")
    begin = PreTrainedTokenizerFast(
        tokenizer_object=byte_level.backend_tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    for tokenizer in (without, begin):  # where BOS begins every message, there is none beside
        chat = chat_format("chatml", tokenizer)
        made = conversation(TURNS)
        ids = chat.encode(made).ids.tolist()
        assert ids == template_ids(tokenizer, chat, made, prompt=False)
        assert spelled(tokenizer, ids).startswith("<|im_start|>system\n한국어로")
        assert ids.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 5
    with pytest.raises(BllossomError, match="plain needs an EOS token"):
        chat_format("plain", PreTrainedTokenizerFast(tokenizer_object=byte_level.backend_tokenizer))


def test_turns_out_of_order_are_refused_by_the_template(byte_level: PreTrainedTokenizerFast) -> None:
    chat = chat_format("chatml", byte_level)
    with pytest.raises(Exception, match="user, assistant, user"):
        template_ids(byte_level, chat, Conversation((Message("assistant", "hello"),)), prompt=False)


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LAST_ANSWER_ONLY = CHATML.replace(
    "message['content'] +", "(message['content'] if loop.last or message['role'] == 'user' else '…') +"
)
ENDLESS = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"


def with_added(tokenizer: PreTrainedTokenizerFast, *tokens: AddedToken, **flags: bool) -> PreTrainedTokenizerFast:
    """The tokenizer with more added tokens, and with these flags on the pieces of ChatML."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token |= flags if token["content"] in ("<|im_start|>", "<|im_end|>") else {}
    backend = Tokenizer.from_str(json.dumps(content))
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
    made.add_tokens(list(tokens))
    return made


@pytest.mark.parametrize("named", ["chatml", "jinja"])
def test_pieces_of_a_chat_that_the_tokenizer_does_not_call_special_are_controls_all_the_same(
    named: str, byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    tokenizer = with_added(byte_level, special=False)
    chat = chat_format("chatml" if named == "chatml" else write(CHATML), tokenizer)
    begin, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    ids = chat.encode(conversation([("user", "a <|im_end|>"), ("assistant", "<|im_start|>b<|im_end|>")])).ids.tolist()
    assert (ids.count(begin), ids.count(end)) == (2, 2)
    assert "<|im_start|>b<|im_end|>" in spelled(tokenizer, ids)


@pytest.mark.parametrize("named", ["chatml", "jinja"])
def test_a_control_that_takes_white_space_along_ends_an_answer_and_is_learned(
    named: str, byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    tokenizer = with_added(byte_level, lstrip=True, rstrip=True)
    chat = chat_format("chatml" if named == "chatml" else write(CHATML), tokenizer)
    made = conversation([(role, content.strip()) for role, content in TURNS])
    example = chat.encode(made)
    assert example.ids.tolist() == template_ids(tokenizer, chat, made, prompt=False)
    assert example.straddling == 0
    assert np.count_nonzero(example.ids[example.supervised] == chat.end_ids[0]) == 2
    hostile = chat.encode(conversation([("user", "a"), ("assistant", "b <|im_end|>")]))
    assert hostile.straddling == 0
    assert np.count_nonzero(hostile.ids[hostile.supervised] == chat.end_ids[0]) == 1


def test_added_tokens_of_one_character_and_of_white_space(byte_level: PreTrainedTokenizerFast) -> None:
    tokenizer = with_added(byte_level, AddedToken("\n\n"), AddedToken("😀"), AddedToken("☃", special=True))
    for name in ("chatml", "lima", "plain"):
        chat = chat_format(name, tokenizer)
        made = conversation([("user", "a\n\nb"), ("assistant", "c 😀\n\nd")])
        assert chat.encode(made).ids.tolist() == template_ids(tokenizer, chat, made, prompt=False)
        ids = chat.encode(conversation([("user", "a ☃ b"), ("assistant", "c\n\n</s☃ 😀")])).ids.tolist()
        assert tokenizer.convert_tokens_to_ids("☃") not in ids
        assert tokenizer.convert_tokens_to_ids("😀") in ids
        assert "a ☃ b" in spelled(tokenizer, ids)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_template(text: str) -> Path:
        path = tmp_path / "chat.jinja"
        path.write_text(text, encoding="utf8")
        return path

    return write_template


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_a_template_of_somebody_else_gives_the_mask_of_our_own(
    template: str, byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    turns = [(role, content.strip()) for role, content in TURNS]
    without = PreTrainedTokenizerFast(tokenizer_object=byte_level.backend_tokenizer, eos_token="<|im_end|>")
    ours, theirs = chat_format("chatml", without), chat_format(write(template), without)
    for made in (conversation(turns), conversation([("user", "<|im_end|>"), ("assistant", "a<|im_start|>b")])):
        assert theirs.encode(made).ids.tolist() == ours.encode(made).ids.tolist()
        assert theirs.encode(made).supervised.tolist() == ours.encode(made).supervised.tolist()
        assert theirs.prompt(made.prompt()) == ours.prompt(made.prompt())
    assert theirs.end_ids == ours.end_ids
    without.chat_template = template
    assert chat_format(None, without).encode(made).ids.tolist() == ours.encode(made).ids.tolist()


def test_a_piece_that_straddles_header_and_answer_is_unsupervised_and_counted(
    byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    chat = chat_format(write(CHATML.replace("\\n'", " '")), byte_level)
    made = conversation([("user", "a"), ("assistant", "the cow")])
    example = chat.encode(made)
    assert example.ids.tolist() == template_ids(byte_level, chat, made, prompt=False)
    assert example.straddling == 1
    assert spelled(byte_level, example.ids[example.supervised].tolist()) == " cow<|im_end|>"


def test_templates_that_no_mask_can_be_read_off_are_refused(
    byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    chat = chat_format(write(LAST_ANSWER_ONLY), byte_level)
    chat.encode(conversation(TURNS[1:3]))
    with pytest.raises(UnusableError, match=r"otherwise than within the whole.*mark answers with {% generation %}"):
        chat.encode(conversation(TURNS))
    with pytest.raises(BllossomError, match="ends with no special token"):
        chat_format(write(ENDLESS), byte_level)
    with pytest.raises(BllossomError, match="refuses it"):
        chat_format(write("{{ raise_exception('no') }}"), byte_level)
    with pytest.raises(BllossomError, match=r"refuses it \(division by zero\)"):
        chat_format(write(CHATML + "{{ 1 / 0 }}"), byte_level)
    with pytest.raises(BllossomError, match=r"does not give a question to read .* but '<\|im_end\|>' to learn"):
        chat_format(
            write(CHATML.replace("message['content']", "message['content'][0]['text'] | default('')")), byte_level
        )
    everything = (
        "{% for m in messages %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{% endfor %}"
    )
    with pytest.raises(BllossomError, match="does not give a question to read"):
        chat_format(write(everything), byte_level)
    with pytest.raises(BllossomError, match="cannot be read"):
        chat_format(Path("no.jinja"), byte_level)


def test_of_several_templates_the_default_one_is_the_models_own(byte_level: PreTrainedTokenizerFast) -> None:
    tokenizer = with_added(byte_level)
    tokenizer.chat_template = {"tool_use": "{{ 1 }}", "default": CHATML}
    assert chat_format(None, tokenizer).template == CHATML
    tokenizer.chat_template = {"tool_use": CHATML}
    with pytest.raises(BllossomError, match="no default one among its chat templates; set template to plain, lima"):
        chat_format(None, tokenizer)


# As Mistral's: the system message stands in the last question.
SYSTEM_LAST = (
    "{% if messages[0]['role'] == 'system' %}{% set system, turns = messages[0]['content'] + '\n', messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}{% for m in turns %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + (system if m == (turns | selectattr('role', 'eq', 'user') | list | last) "
    "else '') + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REASONED = "<think>Long reasoning.</think>Seoul."


@pytest.mark.parametrize("base", [CHATML, MARKED])
def test_a_conversation_of_which_a_template_leaves_something_out_cannot_be_used(
    base: str, byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    with_system = conversation([("system", "Answer in Korean only."), ("user", "Where?"), ("assistant", "Seoul.")])
    ignoring = base.replace("in messages %}", "in messages if message.role != 'system' %}")
    chat = chat_format(write(ignoring), byte_level)
    chat.encode(conversation([("user", "Where?"), ("assistant", "Seoul.")]))
    for refused in (lambda: chat.encode(with_system), lambda: chat.prompt(with_system.prompt())):
        with pytest.raises(UnusableError, match=r"leaves out what the system says \('Answer in Korean"):
            refused()

    cutting = base.replace("message['content'] +", "message['content'].split('</think>')[-1] +")
    chat = chat_format(write(cutting), byte_level)
    reasoned = conversation([("user", "Where?"), ("assistant", REASONED), ("user", "Sure?"), ("assistant", "Yes.")])
    with pytest.raises(UnusableError, match=r"leaves out what the assistant says \('<think>Long.* or a part of it"):
        chat.encode(reasoned)
    assert chat.prompt(reasoned.prompt())  # nobody learns an earlier answer of a prompt


def test_texts_that_a_template_trims_escapes_or_moves_are_there(
    byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    made = conversation([("system", "한국어로!"), ("user", ' "2 < 3"\n? '), ("assistant", '"Yes" & no,\n\n"둘" ')])
    for filtered in ("| trim", "| tojson", "| replace('\\n', ' ')"):
        template = CHATML.replace("message['content'] +", f"(message['content'] {filtered}) +")
        assert chat_format(write(template), byte_level).encode(made).supervised.any(), filtered
    assert chat_format(write(SYSTEM_LAST), byte_level).encode(made).supervised.any()
    symbols = conversation([("user", "?"), ("assistant", "😀")])
    chat_format(write(CHATML), byte_level).encode(symbols)


# As Llama 3.2's.
DATED = (
    "{%- if strftime_now is defined %}{%- set today = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set today = '26 Jul 2024' %}{%- endif %}{{ '<|im_start|>Today: ' + today + '<|im_end|>\\n' }}"
)
KNOWN = "{{ '<|im_start|>Today: 26 Jul 2024<|im_end|>\\n' }}"


@pytest.mark.parametrize("base", [CHATML, MARKED])
def test_a_template_that_asks_for_the_date_gives_the_same_ids_on_every_day(
    base: str, byte_level: PreTrainedTokenizerFast, write: Callable[[str], Path]
) -> None:
    made = conversation([("user", "Where?"), ("assistant", "Seoul.")])
    asking, knowing = (chat_format(write(text), byte_level) for text in (DATED + base, KNOWN + base))
    assert asking.encode(made).ids.tolist() == knowing.encode(made).ids.tolist()
    assert asking.encode(made).supervised.tolist() == knowing.encode(made).supervised.tolist()
    assert asking.prompt(made.prompt()) == knowing.prompt(made.prompt())
    assert asking.template == DATED + base  # what is published asks as before
