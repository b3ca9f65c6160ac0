"""The tokenizers that formats are tried on: Llama 2's, merged with KoBERT's vocabulary, and a byte-level one."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bllossom.instructions.messages import Conversation
from bllossom.instructions.reading import InstructionSource, read_instructions
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

ROOT = Path(__file__).parent.parent.parent
# Llama 3's (github.com/meta-llama/llama3, llama/tokenizer.py).
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPLIT = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTROLS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHATML_CONTROLS = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer(shared: Callable[[str], Path]) -> PreTrainedTokenizerFast:
    return load_tokenizer(shared("tokenizers/llama2"))


@pytest.fixture(scope="session")
def merged(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    output = tmp_path_factory.mktemp("merged") / "vocab"
    base, donor = shared("tokenizers/llama2"), shared("tokenizers/kobert")
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(donor), output=output))
    return load_tokenizer(output)


@pytest.fixture(scope="session")
def byte_level() -> PreTrainedTokenizerFast:
    """A small byte-level vocabulary with the control pieces of Llama 3 and of ChatML."""

    def texts() -> Iterator[str]:
        for path in sorted((ROOT / "data/corpus").glob("*.jsonl")):
            for line in path.read_text(encoding="utf8").splitlines()[:500]:
                yield json.loads(line)["text"]

    backend = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    specials = [*CONTROLS, *CHATML_CONTROLS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=CONTROLS[0], eos_token=CONTROLS[1])


@pytest.fixture(scope="session")
def word_pieces() -> PreTrainedTokenizerFast:
    """A small vocabulary without byte fallback: what it has no piece for is `<unk>`."""
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["Where is </s>? It is text.\nUser: Assistant: System: <s> <unk>"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def dialogues(shared: Callable[[str], Path]) -> list[Conversation]:
    """LIMA's 1,029, and 700 short ones in Korean."""
    sources = [shared("instructions/lima_en_train.json"), ROOT / "data/instructions/ko_train.jsonl"]
    return read_instructions([InstructionSource(path=str(source)) for source in sources]).conversations
