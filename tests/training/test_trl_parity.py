"""sft takes the steps of TRL's trainer: the same losses on the same examples, packed here and padded there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, TrainerCallback

from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.sft import SftConfig, load_examples, sft
from bllossom.training.tuning.example_rows import ExampleRows
from tests.fixtures.command_runs import log_lines
from tests.fixtures.tiny_chat import write_tiny_model

STEPS, PER_STEP, RATE = 20, 8, 1e-2
EXAMPLES = [{"instruction": f"Count to {n}.", "output": " ".join(map(str, range(n + 1)))} for n in range(1, 41)]


def losses_of_trl(config: SftConfig, folder: Path) -> list[float]:
    """Of SFTTrainer on the ids and labels that sft reads, in their order, two micro-batches a step."""
    trl = pytest.importorskip("trl", reason="TRL is not installed (pip install 'bllossom[dev]')")
    from datasets import Dataset
    from torch.utils.data import SequentialSampler

    rows = ExampleRows(load_examples(config)[1].items, config.seed)
    ordered = [rows.example(index) for index in range(STEPS * PER_STEP)]
    labels = [np.where(example.supervised, example.ids, -100).tolist() for example in ordered]
    data = Dataset.from_dict({"input_ids": [example.ids.tolist() for example in ordered], "labels": labels})
    losses: list[float] = []

    class Noted(TrainerCallback):
        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            losses.extend([logs["loss"]] if logs and "loss" in logs else [])

    class InOrder(trl.SFTTrainer):  # type: ignore[misc,name-defined]
        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler(data)

    tokenizer = load_tokenizer(config.model)
    tokenizer.pad_token = tokenizer.unk_token or "<unk>"
    arguments = trl.SFTConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        max_steps=STEPS,
        per_device_train_batch_size=PER_STEP // 2,
        gradient_accumulation_steps=2,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        warmup_steps=0,
        adam_beta1=config.optimizer.beta1,
        adam_beta2=config.optimizer.beta2,
        adam_epsilon=config.optimizer.epsilon,
        weight_decay=config.optimizer.weight_decay,
        max_grad_norm=config.optimizer.gradient_clip,
        max_length=config.max_tokens,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(config.model)
    InOrder(model, arguments, train_dataset=data, processing_class=tokenizer, callbacks=[Noted()]).train()
    return losses


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")  # TRL's own default
def test_losses_of_twenty_steps_equal_trls_to_four_decimals(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", layers=2, hidden_size=32)
    (tmp_path / "examples.json").write_text(json.dumps(EXAMPLES))
    config = SftConfig.model_validate(
        {
            "output": tmp_path / "tuned",
            "model": str(model),
            "data": [tmp_path / "examples.json"],
            "template": "chatml",
            "max_tokens": 256,
            "examples_per_step": PER_STEP,
            "epochs": 4,
            "micro_batch": 2,
            "learning_rate": {"peak": RATE, "warmup_fraction": 0, "schedule": "constant"},
            "precision": "fp32",
            "gpus": 0,
            "samples": 0,
        }
    )
    sft(config)  # first: accelerate leaves a launcher's variables behind
    expected = losses_of_trl(config, tmp_path / "trl")
    found = [line["loss"] for line in log_lines(tmp_path / "tuned")]
    assert len(found) == len(expected) == STEPS
    assert found == pytest.approx(expected, abs=1e-4)
    assert found[-1] < found[0] / 2  # so that the steps, too, were the same
