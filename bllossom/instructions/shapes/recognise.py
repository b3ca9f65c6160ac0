"""Which shape a file is of: what its first record fits, or what the config names."""

from collections.abc import Mapping
from typing import Any, Literal

from bllossom.instructions.messages import UnusableError
from bllossom.instructions.shapes.chat import LIMA, MESSAGES, SHAREGPT
from bllossom.instructions.shapes.pairs import ALPACA, DOLLY, PROMPT
from bllossom.instructions.shapes.shape import Shape

ShapeName = Literal["messages", "sharegpt", "lima", "alpaca", "dolly", "prompt"]
SHAPES: tuple[Shape, ...] = (MESSAGES, SHAREGPT, LIMA, DOLLY, ALPACA, PROMPT)


def shape_named(name: ShapeName) -> Shape:
    """The shape of that name."""
    return next(shape for shape in SHAPES if shape.name == name)


def recognise(record: Any) -> Shape:
    """The first shape that a record fits.

    Raises:
        UnusableError: none; shows the record's keys and the shapes there are.
    """
    if isinstance(record, Mapping):
        for shape in SHAPES:
            if shape.fits(record):
                return shape
    found = f"its keys are {', '.join(map(str, record)) or 'none'}" if isinstance(record, Mapping) else "no object"
    known = "; ".join(f"{shape.name} {shape.looks}" for shape in SHAPES)
    raise UnusableError(f"is of no known shape ({found}); write it as one of {known}; or map its columns with fields")
