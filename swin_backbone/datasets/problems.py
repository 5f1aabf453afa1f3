"""Problems of data sets, counted by kind, with their first examples."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

EXAMPLES = 3
LONGEST = 60
"""Maximum number of characters of a quoted value."""


@dataclass
class Finding:
    """Problems of one kind.

    Attributes:
        what: number and kind, such as '3 annotations without a bbox'.
        examples: descriptions of the first problems.
        remedy: what to do, or how such entries are handled.
        fatal: whether the problems prevent a run.
    """

    what: str
    examples: list[str]
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        shown = f' ({"; ".join(self.examples)})' if self.examples else ''
        return f'{self.what}{shown}: {self.remedy}'


@dataclass
class Findings:
    """All problems of one file or folder.

    Attributes:
        where: the file or folder.
        found: the problems by kind, in the order of the checks.
    """

    where: str
    found: list[Finding] = field(default_factory=list)

    def add(
        self,
        noun: str,
        phrase: str,
        remedy: str,
        items: Sequence[Any],
        describe: Callable[[Any], str] = str,
        fatal: bool = True,
    ) -> None:
        """Add problems of one kind, if there are any items."""
        if len(items):
            examples = [describe(item) for item in islice(items, EXAMPLES)]
            self.found.append(Finding(f'{counted(len(items), noun)} {phrase}', examples, remedy, fatal))

    @property
    def notes(self) -> list[str]:
        """A line for each kind of problem that does not prevent a run."""
        return [f'{self.where}: {finding}.' for finding in self.found if not finding.fatal]

    @property
    def clauses(self) -> list[str]:
        """A clause for each kind of problem that prevents a run."""
        return [f'has {finding}' for finding in self.found if finding.fatal]

    @property
    def sentence(self) -> str:
        """The first fatal kind in full and the number of the others; empty if there is none."""
        fatal = [finding for finding in self.found if finding.fatal]
        if not fatal:
            return ''
        others = ', '.join(finding.what for finding in fatal[1:])
        return f'{self.where} has {fatal[0]}.' + (f' It also has {others}.' if others else '')

    @property
    def kinds(self) -> str:
        """The fatal kinds of problems with their numbers."""
        return ', '.join(finding.what for finding in self.found if finding.fatal)


def counted(count: int, noun: str) -> str:
    """Format a number with its noun in singular or plural."""
    plural = f'{noun[:-1]}ies' if noun.endswith('y') else f'{noun}es' if noun.endswith('s') else f'{noun}s'
    return f'{count:,} {noun if count == 1 else plural}'


def quoted(value: Any) -> str:
    """Return the ``repr`` of a value, shortened."""
    text = repr(value)
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def duplicates(values: Iterable[Any]) -> list[Any]:
    """Return the distinct values that occur more than once."""
    seen: set[Any] = set()
    twice: dict[Any, None] = {}
    for value in values:
        if value in seen:
            twice[value] = None
        seen.add(value)
    return list(twice)
