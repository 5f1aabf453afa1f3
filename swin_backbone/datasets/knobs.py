"""The parameters of a generated data set: fields that say what they mean, and the ranges they must lie in."""

from collections.abc import Iterable
from dataclasses import field
from typing import Any

from swin_backbone.errors import InputError


def knob(default: Any, meaning: str) -> Any:
    """A field of a spec; the command line shows its meaning as help."""
    return field(default=default, metadata={'help': meaning})


def check_ranges(data_set: str, spec: object, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Refuse values of ``spec`` outside of their ranges, each a name with the least and the most.

    Raises:
        InputError: names the value and its range.
    """
    for name, low, high in ranges:
        value = getattr(spec, name)
        if not low <= value <= high:
            raise InputError(f'{name} of a {data_set} data set must lie in {low}..{high}, got {value}: change it.')
