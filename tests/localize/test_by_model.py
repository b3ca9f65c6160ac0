"""A small model that really translates: trained here on six words of three languages, and knowing no mark."""

import json
import random
import shutil

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.localize.translate import TranslateConfig, translate
from bllossom.serving.log import read_log
from tests.serving.stand_in import stand_in

ENGLISH = ("the", "cat", "sees", "big", "house")
WORDS = {"kor_Hang": ("그", "고양이", "본다", "큰", "집"), "deu_Latn": ("die", "Katze", "sieht", "gross", "Haus")}
WINDOW = 24


def small_tokenizer():
    specials = ("<pad>", "</s>", "<unk>", *WORDS)
    vocabulary = {word: number for number, word in enumerate((*specials, *ENGLISH, *sum(WORDS.values(), ()), ".", "?"))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=list(WORDS),
        model_max_length=WINDOW,
    )


@pytest.fixture(scope="module")
def translator(tmp_path_factory):
    """The model's folder: up to four words, and a mark among them that it forgets, as real ones do."""
    folder = tmp_path_factory.mktemp("translator")
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    model = MarianMTModel(
        MarianConfig(
            vocab_size=len(tokenizer),
            d_model=64,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=WINDOW,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            forced_eos_token_id=None,
            dropout=0.0,
            scale_embedding=True,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = random.Random(0)
    for _ in range(450):
        lines, answers = [], []
        for _ in range(48):
            chosen = rng.sample(range(len(ENGLISH)), rng.randint(1, 4))
            language, end = rng.choice(list(WORDS)), rng.choice([".", "?", ""])
            line = [ENGLISH[word] for word in chosen]
            if rng.random() < 0.2:
                line.insert(rng.randint(0, len(line)), "⟦0⟧")
            lines.append(" ".join(line) + end)
            answers.append(f"{language} {' '.join(WORDS[language][word] for word in chosen)}{end}")
        inputs = tokenizer(lines, return_tensors="pt", padding=True)
        labels = tokenizer(answers, return_tensors="pt", padding=True).input_ids
        labels[labels == 0] = -100
        model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config(folder, translator, *dialogues, **settings):
    source = folder / "source.jsonl"
    source.write_text("".join(json.dumps({"conversations": list(turns)}) + "\n" for turns in dialogues))
    return TranslateConfig.model_validate(
        {
            "source": [{"path": str(source)}],
            "output": folder / "out",
            "keep_going": settings.pop("keep_going", False),
            "by_model": {"path": str(translator), "target_code": "kor_Hang", "max_tokens": 20, **settings},
        }
    )


def contents(folder):
    records = map(json.loads, (folder / "out" / "target.jsonl").read_text(encoding="utf8").splitlines())
    return [[message["content"] for message in record["messages"]] for record in records]


def test_lines_are_translated_and_code_comes_through_a_model_that_knows_no_marks(tmp_path, translator):
    dialogue = ("the cat sees?", "- the cat `ls -l` house.\n- big house\n\n```\nthe cat\n```")
    manifest = translate(config(tmp_path, translator, dialogue))
    assert contents(tmp_path) == [["그 고양이 본다 ?", "- 그 고양이 `ls -l` 집 .\n- 큰 집\n\n```\nthe cat\n```"]]
    notes = [json.loads(line) for line in (tmp_path / "out" / "notes.jsonl").read_text().splitlines()]
    assert [(note["turn"], note["lost"], note["asked"]) for note in notes] == [(1, [], 2)]
    assert manifest.figures["messages_asked_twice"] == 1
    assert manifest.inputs["model"]


def test_the_target_language_is_the_one_named(tmp_path, translator):
    translate(config(tmp_path, translator, ("the cat", "big house"), target_code="deu_Latn"))
    assert contents(tmp_path) == [["die Katze", "gross Haus"]]


def test_what_is_answered_is_not_translated_again_and_another_model_is_asked_anew(tmp_path, translator):
    mine = tmp_path / "mine"
    shutil.copytree(translator, mine)
    translate(config(tmp_path, mine, ("the cat", "big house")))
    answers = tmp_path / "out.answers.jsonl"
    before = len(read_log(answers))
    moved = tmp_path / "moved"
    mine.rename(moved)
    shutil.rmtree(tmp_path / "out")
    translate(config(tmp_path, moved, ("the cat", "big house"), batch=1))
    assert len(read_log(answers)) == before
    model = MarianMTModel.from_pretrained(moved)
    with torch.no_grad():
        model.lm_head.weight *= 1.001
    model.save_pretrained(moved)
    shutil.rmtree(tmp_path / "out")
    translate(config(tmp_path, moved, ("the cat", "big house")))
    assert len(read_log(answers)) == 2 * before


@pytest.mark.parametrize("first", ["by_model", "by_endpoint"])
def test_a_model_and_an_endpoint_file_their_answers_side_by_side(tmp_path, translator, first):
    with stand_in(lambda body, attempt: "그 고양이") as server:
        by_model = config(tmp_path, translator, ("the cat", "big house"))
        endpoint = {"url": server.url, "model": "m", "key_variable": None}
        by_endpoint = TranslateConfig.model_validate(
            by_model.model_dump()
            | {"by_model": None, "by_endpoint": {"endpoint": endpoint, "system_prompt": "Translate."}}
        )
        expected = {"by_model": [["그 고양이", "큰 집"]], "by_endpoint": [["그 고양이", "그 고양이"]]}
        ways = [("by_model", by_model), ("by_endpoint", by_endpoint)]
        if first == "by_endpoint":
            ways.reverse()
        for name, settings in [*ways, *ways]:
            translate(settings, force=True)
            assert contents(tmp_path) == expected[name]
        assert len(server.bodies) == 2
    assert len(read_log(tmp_path / "out.answers.jsonl")) == 4, "each was asked once"


def test_a_translation_that_ends_at_its_limit_is_noted_as_cut(tmp_path, translator):
    translate(config(tmp_path, translator, ("the cat sees house.", "cat"), max_tokens=3))
    notes = [json.loads(line) for line in (tmp_path / "out" / "notes.jsonl").read_text().splitlines()]
    assert [(note["turn"], note["cut"]) for note in notes] == [(0, True)]


def test_a_line_that_comes_back_empty_is_noted(tmp_path, translator):
    mute = shutil.copytree(translator, tmp_path / "mute")
    model = MarianMTModel.from_pretrained(mute)
    for word in ("집", "Haus"):  # its one answer to `house`
        model.final_logits_bias[0, small_tokenizer().convert_tokens_to_ids(word)] = -1e9
    model.final_logits_bias[0, 1] = 5.0  # EOS
    model.save_pretrained(mute)
    translate(config(tmp_path, mute, ("the cat\nhouse", "cat")))
    notes = [json.loads(line) for line in (tmp_path / "out" / "notes.jsonl").read_text().splitlines()]
    assert [(note["turn"], note["problem"]) for note in notes] == [(0, "1 lines or parts of them came back empty")]


def test_a_line_longer_than_the_window_fails_its_example_alone(tmp_path, translator):
    long = " ".join(["cat"] * 30)
    with pytest.raises(BllossomError, match=r"the first '1': turn 0: a line of 31 tokens is longer than the model"):
        translate(config(tmp_path, translator, (long, "cat"), ("house", "cat")))
    manifest = translate(config(tmp_path, translator, (long, "cat"), ("house", "cat"), keep_going=True))
    assert manifest.figures["left_out"] == ["1"]
    assert contents(tmp_path) == [["집", "고양이"]]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"target_code": "jpn_Jpan"}, r"target_code: .* has no language 'jpn_Jpan'; it has deu_Latn, kor_Hang"),
        ({"source_code": "eng_Latn"}, "has one source language; leave source_code out"),
    ],
)
def test_languages_that_the_model_lacks_are_refused(tmp_path, translator, settings, told):
    with pytest.raises(BllossomError, match=told):
        translate(config(tmp_path, translator, ("the cat", "big house"), **settings))


def test_what_is_no_translation_model_is_refused(tmp_path):
    empty = tmp_path / "model"
    empty.mkdir()
    (empty / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BllossomError, match="is no translation model"):
        translate(config(tmp_path, empty, ("the cat", "big house")))
