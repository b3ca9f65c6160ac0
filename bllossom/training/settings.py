"""What pretrain and sft have in common: the settings of a training run."""

from typing import Annotated, Literal

from pydantic import Field

from bllossom.config import Model, StageConfig


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

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    epsilon: Annotated[float, Field(gt=0)] = 1e-5
    weight_decay: Annotated[float, Field(ge=0, description="on matrices only, never on norms")] = 0.1
    gradient_clip: Annotated[float, Field(gt=0, description="largest L2 norm of the whole gradient")] = 1.0


class TrainingConfig(StageConfig):
    """The keys of every training stage."""

    micro_batch: Annotated[int, Field(gt=0, description="rows in one forward and backward pass")] = 8
    learning_rate: LearningRate
    optimizer: AdamW = AdamW()
    precision: Annotated[
        Literal["fp32", "bf16"], Field(description="arithmetic of the body; weights and loss stay fp32")
    ] = "fp32"
    loss_chunk: Annotated[
        int | None,
        Field(gt=0, description="tokens whose logits are held at once; null holds the logits of a whole micro-batch"),
    ] = 1024
    gradient_checkpointing: Annotated[bool, Field(description="recompute activations: less memory, a third slower")] = (
        False
    )
    checkpoint_every: Annotated[int, Field(gt=0, description="steps between checkpoints to go on from")] = 200
    seed: Annotated[int, Field(ge=0, description="of the initial weights and of the order of the data")] = 0
