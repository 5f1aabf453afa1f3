"""One HTML page that holds everything it shows: it opens from disk, without a network."""

import base64
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from swin_backbone.evaluation.style import DARK, LIGHT, Theme, render

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #222222; --faint: #d5d5d5; --soft: #f4f5f7; --mark: #1f6fb4;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #1b1e23; --ink: #e4e4e4; --faint: #454b54; --soft: #252a31; --mark: #6db3f2; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 8px; border-bottom: 1px solid var(--faint); padding-bottom: 4px; }
p { max-width: 75ch; margin: 8px 0; }
nav a { color: var(--mark); margin-right: 16px; }
figure { margin: 16px 0 24px; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
figure.chart { display: inline-block; vertical-align: top; margin-right: 20px; max-width: 100%; }
figcaption { font-size: 13px; opacity: 0.8; margin-top: 4px; }
@media (max-width: 700px) {
  figure.photo { overflow-x: auto; }
  figure.photo img { max-width: none; width: 860px; }
}
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
caption { text-align: left; font-size: 13px; opacity: 0.8; padding-bottom: 4px; }
th, td { padding: 3px 14px 3px 0; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
th.text, td.text { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 12px 0; font-size: 14px; }
dt { opacity: 0.7; }
dd { margin: 0; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.figures div { background: var(--soft); border-radius: 6px; padding: 8px 16px; min-width: 110px; }
.figures b { display: block; font-size: 22px; }
"""


@dataclass(frozen=True)
class Chart:
    """A figure that is drawn once for light paper and once for dark.

    Attributes:
        name: of its PNG file, without the ending.
        alt: what it shows, for those who do not see it.
        build: makes the figure in a theme.
    """

    name: str
    alt: str
    build: Callable[[Theme], Any]

    def html(self) -> str:
        """The figure in both themes, in the page itself."""
        dark, light = data_address(render(self.build, DARK), 'png'), data_address(render(self.build, LIGHT), 'png')
        alt = html.escape(self.alt)
        return (
            f'<figure class="chart"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
            f'<img src="{light}" alt="{alt}"></picture><figcaption>{alt}</figcaption></figure>'
        )


@dataclass(frozen=True)
class Photo:
    """A finished picture.

    Attributes:
        data: an image file.
        kind: 'jpeg' or 'png'.
        alt: what it shows.
    """

    data: bytes
    kind: str
    alt: str

    def html(self) -> str:
        """The picture, in the page itself."""
        alt = html.escape(self.alt)
        return (
            f'<figure class="photo"><img src="{data_address(self.data, self.kind)}" alt="{alt}">'
            f'<figcaption>{alt}</figcaption></figure>'
        )


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; numbers between 0 and 1 get three places, what is not a number a dash."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def html(self) -> str:
        """The table, in a box that scrolls where it is too wide."""
        first = self.rows[0] if self.rows else [0] * len(self.header)
        kinds = [' class="text"' if isinstance(value, str) else '' for value in first]
        head = ''.join(
            f'<th scope="col"{kind}>{html.escape(name)}</th>' for name, kind in zip(self.header, kinds, strict=True)
        )
        body = ''.join('<tr>' + ''.join(cell(value) for value in row) + '</tr>' for row in self.rows)
        caption = html.escape(self.caption)
        return (
            f'<div class="scroll"><table><caption>{caption}</caption>'
            f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, a sentence or two, and what it shows."""

    title: str
    text: str
    items: Sequence[Chart | Photo | Table] = field(default_factory=tuple)

    @property
    def anchor(self) -> str:
        """Where links of the page point."""
        return re.sub('[^a-z0-9]+', '_', self.title.lower())

    def html(self) -> str:
        """Heading, text and items."""
        items = '\n'.join(item.html() for item in self.items)
        text = f'<p>{html.escape(self.text)}</p>' if self.text else ''
        return f'<section id="{self.anchor}"><h2>{html.escape(self.title)}</h2>{text}{items}</section>'


def cell(value: Any) -> str:
    """A table cell."""
    if isinstance(value, str):
        return f'<td class="text">{html.escape(value)}</td>'
    return f'<td>{number(value)}</td>'


def number(value: Any) -> str:
    """A number as a reader wants it."""
    if isinstance(value, float):
        return '–' if value != value else f'{value:.3f}' if abs(value) < 10 else f'{value:.1f}'
    return f'{value:,}'


def data_address(data: bytes, kind: str) -> str:
    """An address that holds the picture itself."""
    return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def render_page(title: str, figures: dict[str, Any], facts: dict[str, Any], sections: Sequence[Section]) -> str:
    """The whole page.

    Args:
        title: heading and name of the window.
        figures: the few numbers that matter, by name.
        facts: about the run.
        sections: in order.
    """
    tiles = ''.join(f'<div><b>{number(value)}</b>{html.escape(name)}</div>' for name, value in figures.items())
    listed = ''.join(f'<dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd>' for name, value in facts.items())
    links = ''.join(f'<a href="#{section.anchor}">{html.escape(section.title)}</a>' for section in sections)
    body = '\n'.join(section.html() for section in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n'
        f'<body><main><h1>{html.escape(title)}</h1><div class="figures">{tiles}</div><dl>{listed}</dl>'
        f'<nav>{links}</nav>\n{body}\n</main></body></html>\n'
    )
