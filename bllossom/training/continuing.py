"""`continue_from: RUN`: a longer training than a published run's, on the blocks behind those that RUN has read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bllossom.artifacts import fingerprint, read_manifest
from bllossom.errors import BllossomError, ConfigError
from bllossom.tokens.mixture import MixtureConfig
from bllossom.training.block_rows import block_number
from bllossom.training.engines.optimization import learning_rate_at
from bllossom.training.settings import LearningRate

BLOCKS_READ, BLOCKS_SKIPPED = "blocks_read", "blocks_skipped"


@dataclass(frozen=True)
class EarlierRun:
    """What a published run of pretrain tells of itself."""

    folder: Path
    fingerprint: str
    tokens: str  # fingerprint
    config: Mapping[str, Any]
    figures: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest in `folder`.

        Raises:
            BllossomError: pretrain did not publish it.
        """
        manifest = read_manifest(folder)
        if manifest is None or manifest.stage != "pretrain":
            raise BllossomError(f"continue_from: {folder} was not published by pretrain; name a run's output")
        return cls(folder, manifest.fingerprint, manifest.inputs["tokens"], manifest.config, manifest.figures)

    @property
    def blocks(self) -> int:
        """Blocks that it has read, and the runs that it continued."""
        own = self.figures["steps"] * self.config["global_batch"] // self.config["block_size"]
        return int(self.figures.get(BLOCKS_READ, own))

    @property
    def skip_blocks(self) -> list[int]:
        """Blocks that it left out, and the runs that it continued."""
        return sorted(set(self.figures.get(BLOCKS_SKIPPED, self.config["skip_blocks"])))

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of its last step."""
        last_phase = (self.config["phases"] or [{}])[-1]
        rate = LearningRate.model_validate(last_phase.get("learning_rate") or self.config["learning_rate"])
        steps = self.figures["steps"]
        return learning_rate_at(steps - 1, steps, rate)

    def check(
        self, model: object, tokens: Path, mixture: MixtureConfig, block_size: int, seed: int, skip_blocks: list[int]
    ) -> None:
        """Refuse to continue it where the blocks would be others than those that it has read, or the weights not its.

        Raises:
            ConfigError: says both sides.
        """
        then = MixtureConfig.model_validate(self.config["mixture"])
        pairs = {
            "tokens": (self.tokens[:16], fingerprint(tokens)[:16]),
            "mixture": (_what_orders(then), _what_orders(mixture)),
            "block_size": (self.config["block_size"], block_size),
            "seed": (self.config["seed"], seed),
        }
        if differences := [f"{key} {old} there, {new} here" for key, (old, new) in pairs.items() if old != new]:
            raise ConfigError(
                f"continue_from: {self.folder} read other blocks ({'; '.join(differences)}), so they cannot be left "
                "out; set these as they were, or leave continue_from out to read from the first block on"
            )
        if not self._made(model):
            raise ConfigError(
                f"continue_from: model is {model}, which {self.folder} did not make; set model={self.folder}, or "
                "for an adapter the folder that merge-adapter made of it"
            )
        last = block_number(self.blocks - 1, self.skip_blocks)
        if late := sorted(block for block in set(skip_blocks) - set(self.skip_blocks) if block <= last):
            raise ConfigError(
                f"skip_blocks: {self.folder} has read {', '.join(map(str, late))} already; name blocks above {last}"
            )

    def _made(self, model: object) -> bool:
        if not isinstance(model, str) or not Path(model).is_dir():
            return False
        manifest = read_manifest(Path(model))
        made_of_it = manifest is not None and manifest.stage == "merge-adapter"
        return fingerprint(Path(model)) == self.fingerprint or (
            made_of_it and manifest is not None and manifest.inputs.get("adapter") == self.fingerprint
        )


def _what_orders(mixture: MixtureConfig) -> Mapping[str, Any]:
    """What decides which block comes when: all but how often a source may be read."""
    return mixture.model_dump(exclude={"max_epochs"})
