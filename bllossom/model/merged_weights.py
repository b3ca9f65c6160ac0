"""What each tensor of a base becomes once an adapter is merged into it.

    W + scale · B A         a linear layer's adapter: A [rank, in], B [out, rank]
    W + scale · (B A)ᵀ      an embedding's: A [rank, rows], B [width, rank]
    W'                      a matrix or a bias that was trained itself, and lies in the adapter whole

Where one matrix serves both sides of the base, and the adapter made two of it, both are written and the config no
longer ties them. peft unties where `modules_to_save` or an adapter is on one side alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from safetensors import safe_open
from torch import Tensor

from bllossom.errors import BllossomError
from bllossom.model.checkpoint import OUTPUT, Checkpoint
from bllossom.model.safetensors import FLOAT_DTYPES, Growth, Rows, StoredTensor, WeightShard, as_matrix, equal_data

# The names in an adapter's folder, as peft gives them.
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
BLOCK_ROWS = 1024
PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_embedding_A": "up_transposed",
    ".lora_embedding_B": "down_transposed",
}
COPIES = (".modules_to_save.", ".original_module.")
"""In names of what peft stores beside a matrix that was trained as a whole, once more, where its rows were resized."""
Parts = Mapping[str, StoredTensor]
"""What an adapter holds for one tensor of the base: `whole`, which takes its place, and what PARTS names."""


@dataclass(frozen=True)
class MergedWeights:
    """What will be written: known, and checked, before a byte is.

    `separate` are the modules that were trained as a copy of their own, by name (peft's modules_to_save).

    Raises:
        BllossomError: the adapter does not fit the base.
    """

    base: Checkpoint
    adapter: WeightShard
    scale: float
    separate: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        for name, parts in self.changes.items():
            for part in parts.values():
                self._check(name, parts, part)
        if len(set(self.heights.values())) > 1:
            told = ", ".join(f"{name} {rows:,}" for name, rows in self.heights.items())
            raise BllossomError(
                f"{self.adapter.path} with {self.base.folder} would have matrices of different heights ({told}); give "
                "the base as many rows as the adapter has (transformers: resize_token_embeddings, save_pretrained), "
                "and name that folder with model="
            )

    @cached_property
    def changes(self) -> Mapping[str, Parts]:
        """By the base's tensor what the adapter holds for it."""
        found: dict[str, dict[str, StoredTensor]] = {}
        named = {tensor.name for tensor in self.adapter.tensors}
        for tensor in self.adapter.tensors:
            name, part = _target(tensor.name)
            if any(copy in tensor.name and tensor.name.replace(copy, ".") in named for copy in COPIES):
                continue
            found.setdefault(name, {})[part] = tensor
        return found

    @cached_property
    def _stored(self) -> Mapping[str, StoredTensor]:
        return {tensor.name: tensor for shard in self.base.shards for tensor in shard.tensors}

    @property
    def _matrices(self) -> tuple[str, str]:
        """The names of the input and the output matrix, stored or not."""
        return self.base.input_name, self.base.output_name or OUTPUT

    @cached_property
    def tied(self) -> bool:
        """Whether one matrix serves both sides of what is written, too."""
        if not self.base.tied:
            return False
        pair = [self.changes.get(name) for name in self._matrices]
        if pair == [None, None]:
            return True
        if None not in pair:  # both of them, as peft saves tied ones: alike, or trained apart
            whole = [parts.get("whole") for parts in pair if parts and parts.keys() == {"whole"}]
            return len(whole) == 2 and equal_data(self.adapter, whole[0], self.adapter, whole[1])  # type: ignore[arg-type]
        [name] = [name for name in self._matrices if name in self.changes]
        module = name.removesuffix(".weight").rpartition(".")[2]
        return self.changes[name].keys() == {"whole"} and module not in self.separate

    @cached_property
    def growths(self) -> Mapping[str, Growth]:
        """Each of the base's tensors that changes: none of its rows stays."""
        found = {name: self._growth(name, self._values_of(name)) for name in self._stored if self._values_of(name)}
        return {name: growth for name, growth in found.items() if growth is not None}

    @cached_property
    def added(self) -> Mapping[str, tuple[StoredTensor, Growth]]:
        """The output matrix, where the base stores one for both sides and the two are no longer the same."""
        source, name = self._matrices
        if self.tied or name in self._stored:
            return {}
        growth = self._growth(source, self.changes.get(name, {}))
        return {name: (self._stored[source], growth)}

    @property
    def heights(self) -> Mapping[str, int]:
        """Rows of the two matrices once merged."""
        return {name: self._height(name, self._values_of(name)) for name in self._matrices}

    def figures(self) -> dict[str, Any]:
        """What a manifest tells of the merge."""
        return {
            "rows": self.heights[self.base.input_name],
            "merged_matrices": sum(len(parts.keys() - {"whole"}) == 2 for parts in self.changes.values()),
            "replaced_matrices": [name for name, parts in self.changes.items() if "whole" in parts],
            "scale": self.scale,
            "tied": self.tied,
        }

    def _values_of(self, name: str) -> Parts:
        """What changes a tensor: of two matrices that stay one, whichever the adapter holds."""
        if name in self._matrices and self.tied:
            return next((self.changes[one] for one in self._matrices if one in self.changes), {})
        return self.changes.get(name, {})

    def _base_name(self, name: str) -> str:
        """The stored tensor that a matrix starts from."""
        return self.base.input_name if name in self._matrices and name not in self._stored else name

    def _height(self, name: str, parts: Parts) -> int:
        return (parts.get("whole") or self._stored[self._base_name(name)]).shape[0]

    def _growth(self, name: str, parts: Parts) -> Growth:
        shard, old = self.base.find(name)
        source = (self.adapter.path, parts["whole"]) if "whole" in parts else (shard.path, old)
        rows = self._height(name, parts)

        def blocks() -> Iterator[Tensor]:
            values = Rows(source[0], as_matrix(source[1]), rows).blocks(BLOCK_ROWS)
            if parts.keys() <= {"whole"}:
                yield from values
                return
            down, up = self._factors(parts)
            for block, part in zip(values, up.split(BLOCK_ROWS), strict=True):
                yield block.addmm_(part, down, alpha=self.scale)

        return Growth(0, rows, blocks)

    def _factors(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """A and B as they are multiplied: [rank, in] and [out, rank]."""
        factors = {}
        with safe_open(self.adapter.path, "pt") as adapter:
            for part, tensor in parts.items():
                if part != "whole":
                    value = adapter.get_tensor(tensor.name).float()
                    plain = part.removesuffix("_transposed")
                    factors[plain] = value if plain == part else value.T.contiguous()
        return factors["down"], factors["up"]

    def _check(self, name: str, parts: Parts, part: StoredTensor) -> None:
        target = self._stored.get(self._base_name(name))
        if target is None:
            raise BllossomError(
                f"{self.adapter.path}: {part.name} would change {name}, which {self.base.folder} does not have; name "
                "the base that it was trained on with model=, or merge it with peft's merge_and_unload"
            )
        if not self._fits(name, parts, target):
            raise BllossomError(
                f"{self.adapter.path}: {part.name} {list(part.shape)} does not fit {target.name} "
                f"{target.dtype} {list(target.shape)} in {self.base.folder}; name the base that it was trained on "
                "with model="
            )

    def _fits(self, name: str, parts: Parts, target: StoredTensor) -> bool:
        """Whether all are floats, a whole one has the shape it replaces (or other rows, for an embedding), and A and B
        are both there and make that shape."""
        if not {target.dtype, *(tensor.dtype for tensor in parts.values())} <= FLOAT_DTYPES.keys():
            return False
        whole = parts.get("whole", target)
        if whole.shape[1:] != target.shape[1:] or (name not in self._matrices and whole.shape != target.shape):
            return False
        shapes = {
            part.removesuffix("_transposed"): tensor.shape[::-1] if part.endswith("_transposed") else tensor.shape
            for part, tensor in parts.items()
            if part != "whole"
        }
        if not shapes:
            return True
        down, up = shapes.get("down"), shapes.get("up")
        return bool(down and up) and down[0] == up[1] and (up[0], down[1]) == whole.shape  # type: ignore[index]


def _target(name: str) -> tuple[str, str]:
    """The base's tensor that the adapter's tensor of this name changes, and as what."""
    plain = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    for ending, part in PARTS.items():
        if plain.endswith(ending):
            return plain.removesuffix(ending) + ".weight", part
    return plain, "whole"
