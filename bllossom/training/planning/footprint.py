"""How much memory a training step takes on one GPU, by component, without any weights.

Activations are not a formula of ours: the model runs on fake tensors, and what autograd keeps for the backward pass is
added up, by storage. That follows transformers' code wherever it goes. The states are bytes per parameter, as ZeRO
shards them (arXiv 1910.02054, section 3) and as DeepSpeed's engine holds them:

    strategy        weights   gradients   AdamW and fp32 masters    fp32 gradients while stepping
    replicas        4         4           8                         none
    zero1           2         2           12 / N                    4 / N
    zero2           2         2 / N       12 / N                    4 / N
    zero3           2 / N     2 / N       12 / N                    4 / N, at most a sub-group of 1e9 weights
    zero3-offload   2 / N     none        on the CPU                on the CPU

for bf16; in fp32 the 2s are 4s. DeepSpeed keeps fp32 masters beside fp32 weights too. Weights are those of the whole
model, everything else is of what trains: with adapters, or `trainable`, a small part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AttentionInterface, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from bllossom.errors import BllossomError
from bllossom.training.engines.lora import adapter_parameters, add_adapters
from bllossom.training.engines.optimization import Trainable, embedding_matrices, select_trainable
from bllossom.training.settings import Lora

Strategy = Literal["replicas", "zero1", "zero2", "zero3", "zero3-offload"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

# DeepSpeed 0.19's defaults (zero/config.py), in weights: a gradient bucket, what ZeRO-3 keeps gathered, its step.
REDUCE_BUCKET = 500_000_000
MAX_LIVE_PARAMETERS = 1_000_000_000
SUB_GROUP = 1_000_000_000


HEAP_GAPS = 0.41
"""On a CPU, the share of activations and of the body's gradients that glibc 2.36's heap takes once more in gaps: it
keeps freed blocks of up to 32 MB. Measured, not derived (docs/results/plan.md): 0.39 to 0.51 at four shapes."""


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, and what its shape alone decides."""

    parameters: int  # without adapters
    adapters: int  # parameters of all LoRA adapters
    embedding: int  # parameters of one embedding matrix, the largest module
    input_only: int  # parameters that are looked up and never multiplied: the input embedding, unless tied
    rows: int
    width: int
    intermediate: int
    layers: int
    attention_width: int  # heads × head size

    def trained(self, trainable: Trainable) -> int:
        """Parameters that train: of a model with adapters, `all` are these. new_rows keeps gradients and moments of all
        rows of the embeddings too."""
        if trainable == "all":
            return self.adapters or self.parameters
        return self.adapters + self.embedding + self.input_only

    def trains_embeddings(self, trainable: Trainable) -> bool:
        """Whether both embedding matrices, of which the output's is the head, get gradients of their own."""
        return trainable != "all" or not self.adapters


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd keeps between forward and backward: constants, and per block of the micro-batch."""

    outside: float  # per block: embeddings, masks, the last norm
    layer: float  # per block and layer
    layer_constant: float  # per layer, whatever the micro-batch: autocast's bf16 copies of the weights
    layer_input: float  # per block and layer: all that gradient checkpointing keeps of a layer

    def kept(self, micro_batch: int, layers: int, *, checkpointing: bool) -> float:
        """Bytes kept at the end of a forward pass."""
        per_layer = self.layer_input * micro_batch if checkpointing else self.one_layer(micro_batch)
        return self.outside * micro_batch + layers * per_layer

    def one_layer(self, micro_batch: int) -> float:
        """Bytes of one layer while it is not checkpointed, or recomputed."""
        return self.layer * micro_batch + self.layer_constant


@dataclass(frozen=True)
class StepShape:
    """What one optimizer step is made of; sizes in blocks and tokens."""

    block_size: int
    micro_batch: int
    accumulation: int
    groups: int  # losses reported apart (languages): the head's gradient is held once for each
    loss_chunk: int | None  # tokens
    checkpointing: bool
    bf16: bool
    trainable: Trainable = "all"


@dataclass(frozen=True)
class Footprint:
    """Bytes on one GPU. `peak` is below the sum where parts are never there together; the CPU's share is per rank."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    loss: float
    buffers: float
    peak: float
    cpu: float

    def states(self) -> float:
        """Weights, gradients and optimizer: what DeepSpeed's estimators call model states."""
        return self.weights + self.gradients + self.optimizer


def model_size(config: PretrainedConfig, lora: Lora | None = None) -> ModelSize:
    """Count the parameters of a model on the meta device: nothing is allocated.

    Raises:
        ConfigError: peft is not installed, or a target module does not exist.
        BllossomError: the family's code does not build without weights, or its config has no attention.
    """
    with _counting(config):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
            parameters = sum(weight.numel() for weight in model.parameters())
            if lora is not None:
                add_adapters(model, lora, seed=0)
        embedding = embedding_matrices(model)[0].numel()
        heads = config.num_attention_heads
        return ModelSize(
            parameters=parameters,
            adapters=adapter_parameters(model),
            embedding=embedding,
            input_only=0 if config.tie_word_embeddings else embedding,
            rows=config.vocab_size,
            width=config.hidden_size,
            intermediate=_inside_mlp(config),
            layers=config.num_hidden_layers,
            attention_width=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
        )


def count_activations(
    config: PretrainedConfig,
    *,
    block_size: int,
    document_mask: bool,
    weights: torch.dtype,
    autocast: bool,
    trainable: Trainable = "all",
    lora: Lora | None = None,
) -> Activations:
    """Run one layer of each kind, and one more, over one and two blocks on fake tensors, and tell the parts apart.

    `document_mask` says that attention is given a mask of blocks × tokens × tokens: torch's own is, flash attention is
    given where the documents end. Both keep queries, keys, values, the output and a log-sum a row.

    Raises:
        BllossomError: the family has no model of fewer layers, or its code does not run without weights.
    """
    kinds = _first_of_each_kind(config)

    def kept(layers: Sequence[int], blocks: int) -> float:
        with _counting(config):
            small = _of_layers(config, layers)
            with torch.device("meta"):  # peft moves its adapters about, which fake tensors do not take part in
                model = AutoModelForCausalLM.from_config(small, dtype=weights)
                if lora is not None:
                    add_adapters(model, lora, seed=0)
            for weight in model.parameters():
                weight.data = weight.data.to(weights)  # adapters are fp32 until the engine gets them
            select_trainable(model, trainable, old_rows=0)
            fake = FakeTensorMode(allow_non_fake_inputs=True)
            with fake, _causal_attention(blocks, block_size, document_mask) as (name, mask_bytes):
                model.to_empty(device="cpu")
                model.config._attn_implementation = name
                # Full and windowed attention get a mask each.
                return _saved_bytes(model, blocks, block_size, autocast) + mask_bytes * len(kinds)

    one, one_wide = kept(kinds, 1), kept(kinds, 2)
    layers, constants = [], []
    for kind in kinds:
        two, two_wide = kept([*kinds, kind], 1), kept([*kinds, kind], 2)
        layers.append((two_wide - one_wide) - (two - one))
        constants.append((two - one) - layers[-1])
    # Attention in windows keeps what full attention does. Where kinds differ, as convolutions and attention, all layers
    # are taken for the largest: too much over all, and right for the one that is recomputed.
    return Activations(
        outside=one_wide - one - sum(layers),
        layer=max(layers),
        layer_constant=max(constants),
        layer_input=float(block_size * config.hidden_size * weights.itemsize),
    )


def masks_windows(config: PretrainedConfig, block_size: int) -> bool:
    """Whether layers see less than a block of `block_size` tokens, which torch's own attention is told by a mask."""
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)
    return window is not None and window < block_size and (not kinds or "sliding_attention" in kinds)


def footprint(size: ModelSize, activations: Activations, step: StepShape, strategy: Strategy, ranks: int) -> Footprint:
    """The memory of one GPU among `ranks`.

    The peak is at the end of the first forward pass (all activations, and the gradients of earlier micro-batches), at
    the end of the backward pass (all gradients, one layer's activations), or in the optimizer's step.
    """
    held, trained = size.parameters + size.adapters, size.trained(step.trainable)
    weights, gradients, optimizer, stepping, cpu = _states(held, trained, strategy, ranks, bf16=step.bf16)
    buffers = _buffers(held, trained, strategy, 2 if step.bf16 else 4)
    kept = activations.kept(step.micro_batch, size.layers, checkpointing=step.checkpointing)
    layer = activations.one_layer(step.micro_batch)
    loss_kept, loss_passing = _loss(size, step, head_copy=step.bf16 and strategy != "replicas")
    inside_layer = 2.0 * step.micro_batch * step.block_size * size.intermediate * (2 if step.bf16 else 4)
    recomputed = layer if step.checkpointing else 0.0
    always = weights + optimizer + buffers
    # A ZeRO engine has its gradient buffers from the start; plain gradients appear as the backward pass goes down.
    earlier = gradients if step.accumulation > 1 or strategy != "replicas" else 0.0
    forward_end = earlier + kept + loss_kept + max(loss_passing, recomputed + inside_layer)
    backward_end = gradients + layer + inside_layer + activations.outside * step.micro_batch
    return Footprint(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer + stepping,
        activations=kept + recomputed,
        loss=loss_kept + loss_passing,
        buffers=buffers,
        peak=always + max(forward_end, backward_end, gradients + stepping),
        cpu=cpu,
    )


def heap_gaps(size: ModelSize, memory: Footprint) -> float:
    """Bytes that one fp32 process on a CPU holds beyond `memory`; a GPU's allocator has USABLE in plan.py for that.

    Too little with adapters: no gradients of the body fill the holes then. At the three shapes of docs/results/plan.md
    with LoRA of rank 8 and trained embeddings the gaps took 1.0 to 1.8 of the activations, and plans with HEAP_GAPS
    were 0.78 to 0.85 of the measured peaks. Without gaps (MALLOC_MMAP_THRESHOLD_=1000000) `memory` alone was 0.94 to 1.
    """
    body = memory.gradients - 4.0 * (size.embedding + size.input_only)
    return HEAP_GAPS * (memory.activations + body)


def _states(
    held: int, trained: int, strategy: Strategy, ranks: int, *, bf16: bool
) -> tuple[float, float, float, float, float]:
    """Bytes of weights, gradients, optimizer, fp32 gradients while stepping; and on the CPU, for each rank."""
    shard = trained / ranks
    if strategy == "replicas":
        return 4.0 * held, 4.0 * trained, 8.0 * trained, 0.0, 0.0
    narrow = 2 if bf16 else 4
    if strategy == "zero3-offload":
        return narrow * held / ranks, 0.0, 0.0, 0.0, 16 * shard
    stepping = 4 * (min(shard, SUB_GROUP) if strategy == "zero3" else shard)
    return (
        narrow * held / (ranks if strategy == "zero3" else 1),
        narrow * (float(trained) if strategy == "zero1" else shard),
        12 * shard,
        stepping if bf16 else 0.0,
        0.0,
    )


def _buffers(held: int, trained: int, strategy: Strategy, width: int) -> float:
    """DeepSpeed's buckets of gradients (two, as communication overlaps), and the weights that ZeRO-3 has gathered."""
    if strategy == "replicas":
        return 0.0
    gathered = min(held, MAX_LIVE_PARAMETERS) if strategy.startswith("zero3") else 0
    return float(width * (2 * min(trained, REDUCE_BUCKET) + gathered))


def _loss(size: ModelSize, step: StepShape, *, head_copy: bool) -> tuple[float, float]:
    """Bytes that the loss keeps until the backward pass, and those that pass: logits. All fp32 (see loss.py).

    The chunked loss computes its gradients on the way forward: where the head trains one of its size for each group,
    and one of the hidden states. Full logits are there three times when the backward pass begins.
    """
    tokens = step.micro_batch * step.block_size
    hidden = 4.0 * tokens * size.width
    copy = 4.0 * size.embedding if head_copy else 0.0
    if step.loss_chunk is None:
        return copy + hidden, 3 * 4.0 * tokens * size.rows
    groups = min(step.groups, step.micro_batch) if size.trains_embeddings(step.trainable) else 0
    return copy + hidden + groups * 4.0 * size.embedding, 4.0 * min(step.loss_chunk, tokens) * size.rows


def _inside_mlp(config: PretrainedConfig) -> int:
    """The width inside the MLPs. GPT-2 and Bloom name none where it is four times the hidden states'."""
    named = (getattr(config, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"))
    return next((width for width in named if width), 4 * config.hidden_size)


def _by_layer(settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The settings that say of each layer what kind it is: `layer_types`, and with experts `mlp_layer_types`."""
    return {key: value for key, value in settings.items() if key.endswith("layer_types") and value}


def _first_of_each_kind(config: PretrainedConfig) -> list[int]:
    kinds = list(zip(*_by_layer(config.to_dict()).values(), strict=False))
    return sorted({kind: layer for layer, kind in reversed(list(enumerate(kinds)))}.values()) or [0]


def _of_layers(config: PretrainedConfig, layers: Sequence[int]) -> PretrainedConfig:
    """The config of a model that has only these layers, and 8 rows."""
    settings = config.to_dict()
    chosen = {key: [kinds[layer] for layer in layers] for key, kinds in _by_layer(settings).items()}
    count = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    # The piece that pads has to be one of the rows.
    return type(config).from_dict(settings | chosen | {count: len(layers), "vocab_size": 8, "pad_token_id": 0})


@contextmanager
def _counting(config: PretrainedConfig) -> Iterator[None]:
    """Every family has its own way not to be built with fewer layers, or not to run without weights."""
    try:
        yield
    except BllossomError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
        raise BllossomError(
            f"{config.model_type}: a plan counts a model of a few layers without weights, which this family's code "
            f"does not do ({reason}); train a few steps and read peak_memory_bytes in their log"
        ) from error


def _saved_bytes(model: PreTrainedModel, blocks: int, block_size: int, autocast: bool) -> float:
    """Bytes that autograd keeps of a forward pass, each storage once, beside the weights themselves."""
    own = {weight.untyped_storage()._cdata for weight in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no address is used twice
        return tensor

    ids = torch.zeros(blocks, block_size, dtype=torch.long)
    positions = torch.zeros(blocks, block_size, dtype=torch.long)
    with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model.base_model(input_ids=ids, position_ids=positions, use_cache=False)
    return float(sum(storage.nbytes() for storage in kept.values()))


@contextmanager
def _causal_attention(blocks: int, block_size: int, document_mask: bool) -> Iterator[tuple[str, int]]:
    """Register torch's attention under a name of our own, which makes transformers leave the mask to us.

    sdpa keeps queries, keys, values, the output and a log-sum a row, on CPU and GPU alike. With documents masked it
    is also given blocks × tokens × tokens booleans, and each layer makes its own copy of them in its arithmetic.
    """
    mask = torch.ones(blocks, 1, block_size, block_size, dtype=torch.bool) if document_mask else None

    def attention(module: Any, query: Any, key: Any, value: Any, _: None, **options: Any) -> Any:
        return sdpa_attention_forward(module, query, key, value, mask, **options)

    name = f"footprint-{'documents' if document_mask else 'causal'}"
    AttentionInterface.register(name, attention)
    yield name, 0 if mask is None else mask.numel()
