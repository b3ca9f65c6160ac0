"""What pretrain and sft have in common: the settings of a training run."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bllossom.config import AddedIn, Model, StageConfig
from bllossom.ranks.device import DeviceType

Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]


class LearningRate(Model):
    """A linear warm-up to `peak`, then a decay to `final_fraction` of it at the last step."""

    peak: Annotated[float, Field(gt=0, description="highest learning rate")]
    warmup_fraction: Annotated[float, Field(ge=0, lt=1, description="share of the steps spent rising to the peak")] = (
        0.03
    )
    schedule: Annotated[Literal["cosine", "linear", "constant"], Field(description="shape of the decay")] = "cosine"
    final_fraction: Annotated[float, Field(ge=0, le=1, description="last learning rate, as a share of the peak")] = 0.1


class AdamW(Model):
    """AdamW's constants; Llama 2's own by default (arXiv 2307.09288, section 2.2)."""

    beta1: Annotated[float, Field(ge=0, lt=1, description="decay of the mean of the gradients, a step")] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1, description="decay of the mean of their squares, a step")] = 0.95
    epsilon: Annotated[float, Field(gt=0, description="added to the root of the squares' mean")] = 1e-5
    weight_decay: Annotated[float, Field(ge=0, description="on matrices only, never on norms")] = 0.1
    gradient_clip: Annotated[float, Field(gt=0, description="largest L2 norm of the whole gradient")] = 1.0


class Lora(Model):
    """Adapters beside the blocks' own weights, which stay as they are: W + alpha / rank · B A (arXiv 2106.09685).

    Rank and alpha are by default those of Chinese-LLaMA-2's continued pretraining on a grown vocabulary
    (github.com/ymcui/Chinese-LLaMA-Alpaca-2, scripts/training/run_pt.sh).
    """

    rank: Annotated[int, Field(gt=0, description="width of every adapter")] = 64
    alpha: Annotated[int, Field(gt=0, description="what the adapters weigh is alpha / rank")] = 128
    dropout: Annotated[float, Field(ge=0, lt=1, description="share of an adapter's inputs set to zero")] = 0.0
    target_modules: Annotated[
        list[str] | None,
        Field(min_length=1, description="linear layers that get an adapter, as q_proj; null takes all of the blocks"),
    ] = None


class TrainingConfig(StageConfig):
    """The keys of every training stage."""

    # They move a result by rounding alone, and are what one changes to go on on another machine. spike_factor is here
    # because a run that stopped at a spike has to find its checkpoint again.
    execution_keys: ClassVar[frozenset[str]] = frozenset(
        {
            *("gpus", "processes", "deepspeed", "micro_batch", "loss_chunk", "head_tf32", "gradient_checkpointing"),
            *(
                "attention",
                "liger",
                "compile",
                "checkpoint_every",
                "keep",
                "evaluate_every",
                "evaluate_tokens",
                "track",
            ),
            "spike_factor",
        }
    )

    lora: Annotated[
        Lora | None,
        Field(description="train adapters and publish them for peft and merge-adapter; null trains the weights"),
    ] = None
    micro_batch: Annotated[int, Field(gt=0, description="rows in one forward and backward pass of one rank")] = 8
    learning_rate: LearningRate
    optimizer: AdamW = AdamW()
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Field(description="arithmetic of the body; weights and loss stay fp32; auto is bf16 on GPUs, fp32 on the CPU"),
    ] = "auto"
    save_dtype: Annotated[Literal["fp32", "bf16"], Field(description="type of the published weights")] = "fp32"
    gpus: Annotated[
        Annotated[int, Field(ge=0)] | Literal["auto"],
        Field(description="GPUs of this machine to train on; auto takes all, 0 takes the CPU"),
    ] = "auto"
    processes: Annotated[int, Field(gt=0, description="ranks on this machine where no GPU is used")] = 1
    deepspeed: Annotated[
        Literal["zero1", "zero2", "zero3", "zero3-offload"] | Path | None,
        Field(description="the engine: a ZeRO preset, a DeepSpeed JSON, or null for plain replicas"),
    ] = None
    loss_chunk: Annotated[
        int | None,
        Field(gt=0, description="tokens whose logits are held at once; null holds the logits of a whole micro-batch"),
    ] = 1024
    head_tf32: Annotated[
        bool,
        AddedIn(2),
        Field(description="output matrix's products in TF32: rounded to 10 bits, several times faster; needs a GPU"),
    ] = False
    gradient_checkpointing: Annotated[bool, Field(description="recompute activations: less memory, a third slower")] = (
        False
    )
    attention: Annotated[
        Literal["sdpa", "flash_attention_2"], Field(description="attention kernel; flash_attention_2 needs a GPU")
    ] = "sdpa"
    liger: Annotated[
        bool | Literal["auto"],
        Field(description="Liger's fused norm, rotary and SwiGLU kernels; auto takes them on GPUs if installed"),
    ] = "auto"
    compile: Annotated[bool, Field(description="torch.compile the body; pays on GPUs and long runs")] = False
    checkpoint_every: Annotated[int, Field(gt=0, description="steps between checkpoints to go on from")] = 200
    keep: Annotated[int, Field(gt=0, description="newest checkpoints kept; the best one is kept beside them")] = 1
    spike_factor: Annotated[
        float | None,
        Field(gt=1, description="stop where a loss is this many times the median of the last 32 steps; null never"),
    ] = 2.0
    track: Annotated[
        list[Tracker],
        Field(
            description="trackers beside the JSONL, as accelerate brings them; a run that goes on stays one run in "
            "TensorBoard, with each step once, and begins another in the others"
        ),
    ] = []
    seed: Annotated[int, Field(ge=0, description="of the initial weights and of the order of the data")] = 0

    @model_validator(mode="after")
    def _check_attention(self) -> Self:
        if self.attention == "flash_attention_2" and self.precision == "fp32":
            raise ValueError("attention: flash_attention_2 computes in bf16 only; set precision to bf16, or sdpa")
        return self

    def resolved(self, device: DeviceType, *, liger_installed: bool) -> Self:
        """This config with what `auto` stands for on a kind of device: what identifies a run, and what it computes."""
        auto = {"precision": "bf16" if device == "cuda" else "fp32", "liger": device == "cuda" and liger_installed}
        return self.model_copy(update={key: value for key, value in auto.items() if getattr(self, key) == "auto"})

    @property
    def bf16(self) -> bool:
        """Whether the body computes in bf16.

        Raises:
            ValueError: that depends on the device, and nobody has said which (see resolved).
        """
        if self.precision == "auto":
            raise ValueError("precision: auto stands for nothing before the device is known; call resolved first")
        return self.precision == "bf16"

    def computing(self, device: DeviceType) -> str:
        """How a resolved config computes, said before the first step."""
        kernels = ", with Liger's kernels" if self.liger else ""
        return f"computes in {self.precision} on {'GPUs' if device == 'cuda' else 'the CPU'}{kernels}"

    def attention_kernel(self) -> str:
        """The attention that transformers is asked for."""
        return self.attention

    def engine_name(self) -> str:
        """What a checkpoint is marked with."""
        return "plain" if self.deepspeed is None else str(self.deepspeed)
