"""The GPUs that a run can be planned on: what their data sheets say, and how much of that is reached."""

from dataclasses import dataclass

CONTEXT_BYTES = 2e9  # CUDA's context, cuBLAS' and NCCL's own buffers
HEAD_UTILISATION = 0.9  # of the peak: one product of large matrices, which hides no communication
LINK_UTILISATION = 0.75  # of the data sheet's bytes/s, in a sum of large buffers over all GPUs
GPUS_PER_NODE = 8
USABLE = 0.9  # of what is left, for the allocator's gaps and what this plan gets wrong: it is checked to 15 % only


@dataclass(frozen=True)
class Gpu:
    """A GPU's memory as the driver shows it, dense tensor-core peaks of its data sheet, and a usual utilisation."""

    memory: float  # bytes
    bf16: float  # FLOP/s
    tf32: float  # FLOP/s
    fp32: float  # FLOP/s, without TF32, which torch leaves off
    link: float  # bytes/s one way to the other GPUs of a node (NVLink)
    network: float  # bytes/s one way to other nodes, for each GPU: DGX machines have a card for each
    utilisation: float  # model FLOP utilisation, where nobody says otherwise
    source: str  # of the utilisation


LLAMA_2 = "what Llama 2's own 13B run reached: 368,640 A100 hours for 2 T tokens (arXiv 2307.09288, table 2)"
MOSAIC = "13B on 8 to 64 H100, 39.6–41.6 % in llm-foundry's benchmarks (scripts/train/benchmarking)"
GPUS = {
    "a100-40g": Gpu(42.3e9, 312e12, 156e12, 19.5e12, 300e9, 25e9, 0.43, LLAMA_2),
    "a100-80g": Gpu(85.0e9, 312e12, 156e12, 19.5e12, 300e9, 25e9, 0.43, LLAMA_2),
    "h100-80g": Gpu(85.0e9, 989e12, 494e12, 67e12, 450e9, 50e9, 0.40, MOSAIC),
    "h200-141g": Gpu(150.1e9, 989e12, 494e12, 67e12, 450e9, 50e9, 0.40, "as the H100, which has the same cores"),
}


def reduction_seconds(gradient_bytes: float, gpus: int, gpu: Gpu) -> float:
    """To sum gradients over all GPUs: each sends and receives 2 (N − 1) / N of them, over the slowest link."""
    slowest = gpu.link if gpus <= GPUS_PER_NODE else gpu.network
    return 2 * (gpus - 1) / gpus * gradient_bytes / (slowest * LINK_UTILISATION)
