"""sft on the machinery that pretrain uses: the same answers however the batch is cut, and an exact way on."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command_runs import log_lines
from safetensors.torch import load_file
from transformers import AutoTokenizer

from bllossom.errors import ConfigError, Stopped
from bllossom.training import sft as sft_module
from bllossom.training.models import LlamaShape, init_model, save_model
from bllossom.training.rows import Row
from bllossom.training.sft import ExampleRows, SftConfig, sft

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def model(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with Llama 2's tokenizer."""
    folder = tmp_path_factory.mktemp("sft") / "model"
    shape = LlamaShape(hidden_size=16, intermediate_size=32, layers=1, heads=2, window=256)
    tiny = init_model(shape, 32000, seed=0)
    save_model(tiny, tiny.named_parameters(), folder, "fp32", writes=True)
    shutil.copyfile(shared("tokenizers/llama2/tokenizer.model"), folder / "tokenizer.model")
    return folder


@pytest.fixture
def make(model: Path, tmp_path: Path) -> Callable[..., SftConfig]:
    """`make(name, key=value, …)`: a config over ten short examples of uneven length."""
    data = tmp_path / "examples.json"
    examples = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 11)]
    data.write_text(json.dumps(examples))

    def config(name: str, **changes: object) -> SftConfig:
        values = {"output": tmp_path / name, "model": str(model), "data": [data], "examples_per_step": 4, "epochs": 2}
        values |= {"learning_rate": {"peak": 0.01}, "micro_batch": 2, "checkpoint_every": 2, "gpus": 0}
        return SftConfig.model_validate(values | changes)

    return config


def test_stopped_run_goes_on_exactly(
    make: Callable[..., SftConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = sft(make("whole"))
    assert manifest.figures["steps"] == 5
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template

    class StoppingRows(ExampleRows):
        def row(self, index: int) -> Row:
            if index == 8:
                signal.raise_signal(signal.SIGTERM)
            return super().row(index)

    monkeypatch.setattr(sft_module, "ExampleRows", StoppingRows)
    with pytest.raises(Stopped, match="stopped after step 3 of 5"):
        sft(make("again"))
    monkeypatch.undo()
    sft(make("again"))
    losses = [[line["loss"] for line in log_lines(tmp_path / name)] for name in ("whole", "again")]
    assert losses[0] == losses[1]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("whole", "again")]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])


def test_loss_weighs_every_supervised_token_alike(make: Callable[..., SftConfig], tmp_path: Path) -> None:
    """Rows are of uneven length, so a mean of micro-batch means would differ."""
    sft(make("twos", micro_batch=2))
    sft(make("fours", micro_batch=4, loss_chunk=16))
    twos, fours = ([line["loss"] for line in log_lines(tmp_path / name)] for name in ("twos", "fours"))
    assert twos == pytest.approx(fours, rel=1e-5)


def test_batch_that_micro_batches_do_not_divide(make: Callable[..., SftConfig]) -> None:
    with pytest.raises(ConfigError, match="4 examples a step are not a multiple of 1 ranks × micro_batch 3"):
        sft(make("model", micro_batch=3))
