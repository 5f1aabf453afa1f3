"""A progress bar of one line on standard error."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

WIDTH = 30
PAUSE = 0.2
"""Seconds between two redraws."""


def plain(count: float) -> str:
    """A count as it is."""
    return f'{count:.0f}'


def in_bytes(count: float) -> str:
    """A count of bytes in a unit that is read at a glance."""
    for unit in ('B', 'kB', 'MB', 'GB'):
        if count < 1000 or unit == 'GB':
            return f'{count:.0f} {unit}' if unit == 'B' else f'{count:.1f} {unit}'
        count /= 1000
    raise AssertionError('unreachable')


class Progress:
    """Shows how far some work is; on anything but a terminal only the beginning and the end, a line each.

    Args:
        name: what is being done.
        total: how much there is to do; 0 if unknown.
        start: how much of it was done before.
        unit: writes an amount for readers.
        stream: where to show it.
    """

    def __init__(
        self,
        name: str,
        total: float,
        start: float = 0,
        unit: Callable[[float], str] = plain,
        stream: TextIO | None = None,
    ) -> None:
        self.name, self.total, self.start, self.unit = name, total, start, unit
        self.done = start
        self.stream = stream or sys.stderr
        self._began = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> 'Progress':
        self._write(self.line())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write(self.line(), last=True)

    def advance(self, amount: float = 1) -> None:
        """So much more is done."""
        self.done += amount
        if self.stream.isatty() and time.monotonic() - self._drawn > PAUSE:
            self._write(self.line())

    def line(self) -> str:
        """The bar, how much is done, and the time that the rest will take at this pace."""
        if not self.total:
            return f'{self.name}  {self.unit(self.done)}'
        share = min(1.0, self.done / self.total)
        bar = '#' * round(WIDTH * share)
        return f'{self.name} [{bar:<{WIDTH}}] {self.unit(self.done)} of {self.unit(self.total)}{self._rest()}'

    def _rest(self) -> str:
        elapsed = time.monotonic() - self._began
        fresh = self.done - self.start
        if fresh <= 0 or self.done >= self.total or elapsed < 1:
            return ''
        minutes, seconds = divmod(round(elapsed * (self.total - self.done) / fresh), 60)
        return f', {minutes}:{seconds:02d} left'

    def _write(self, line: str, last: bool = False) -> None:
        self._drawn = time.monotonic()
        if self.stream.isatty():
            self.stream.write(f'\r\033[K{line}' + ('\n' if last else ''))
        else:
            self.stream.write(line + '\n')
        self.stream.flush()
