"""A self-contained HTML page, which needs no network and no other files."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment

from swin_backbone.evaluation.style import DARK, LIGHT, Theme, render

TEMPLATE = Path(__file__).with_name('page.html')


def data_url(data: bytes, kind: str) -> str:
    """Encode an image file as a URL."""
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


@dataclass(frozen=True)
class Chart:
    """A figure that is embedded once for light and once for dark screens.

    Attributes:
        name: name of its PNG file without the suffix.
        alt: alternative text.
        build: function that builds the figure in a theme.
    """

    kind: ClassVar[str] = 'chart'
    name: str
    alt: str
    build: Callable[[Theme], Any]

    def image(self, theme: Theme) -> str:
        """Return the URL of the figure in a theme."""
        return data_url(render(self.build, theme), 'png')


@dataclass(frozen=True)
class Photo:
    """An image.

    Attributes:
        data: the content of an image file.
        suffix: 'jpeg' or 'png'.
        alt: alternative text.
    """

    kind: ClassVar[str] = 'photo'
    data: bytes
    suffix: str
    alt: str

    def image(self) -> str:
        """Return the URL of the image."""
        return data_url(self.data, self.suffix)


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; see :func:`number` for their format."""

    kind: ClassVar[str] = 'table'
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def is_text(self, column: int) -> bool:
        """Whether the first row has text in a column."""
        return bool(self.rows) and isinstance(self.rows[0][column], str)


@dataclass(frozen=True)
class Section:
    """A section of the page: heading, short text, and charts, photos or tables."""

    title: str
    text: str
    items: Sequence[Chart | Photo | Table] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        """Anchor for links to the section."""
        return re.sub('[^a-z0-9]+', '_', self.title.lower())


def number(value: Any) -> str:
    """Format a float with three decimals below 10 and otherwise one, and NaN as a dash; text is unchanged."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return '–' if value != value else f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'
    return f'{value:,}'


def render_page(title: str, scores: dict[str, Any], facts: dict[str, Any], sections: Sequence[Section]) -> str:
    """Render the whole page.

    Args:
        title: heading and window title.
        scores: the main scores by name.
        facts: facts about the run by name.
        sections: sections in order.
    """
    environment = Environment(autoescape=True, trim_blocks=True, keep_trailing_newline=True)
    environment.filters['number'] = number
    template = environment.from_string(TEMPLATE.read_text(encoding='utf-8'))
    return template.render(title=title, scores=scores, facts=facts, sections=sections, light=LIGHT, dark=DARK)
