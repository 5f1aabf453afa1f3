"""A report of one evaluation: the page, its figures as PNG files, and its tables as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from swin_backbone.evaluation import charts
from swin_backbone.evaluation.charts import KINDS, Confusion, DetectionScores, draw_class_bars
from swin_backbone.evaluation.curves import build_panel, collect_curves, draw_losses, draw_metrics, read_scalars
from swin_backbone.evaluation.page import Chart, Photo, Section, Table, render_page
from swin_backbone.evaluation.style import render

SHOWN_PICTURES = 24
"""Pictures in the page itself; the others lie beside it."""

LISTED_MISTAKES = 20


def write_report(
    folder: Path, title: str, figures: dict[str, float], facts: dict[str, Any], sections: Sequence[Section]
) -> Path:
    """Write ``index.html``, every chart as PNG and every table as CSV into ``folder``; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        for item in section.items:
            if isinstance(item, Chart):
                (folder / f'{item.name}.png').write_bytes(render(item.build))
            elif isinstance(item, Table):
                write_csv(folder / f'{section.anchor}.csv', item)
    page = folder / 'index.html'
    page.write_text(render_page(title, figures, facts, sections), encoding='utf-8')
    return page


def write_csv(path: Path, table: Table) -> None:
    """A table with its numbers to full precision."""
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([table.header, *table.rows])


def detection_sections(scores: Mapping[str, DetectionScores]) -> list[Section]:
    """Sizes, classes and curves, for boxes and, if there are any, masks."""
    alt = 'AP of all, small, medium and large objects'
    sections = [Section('Size of object', '', [Chart('sizes', alt, partial(charts.draw_sizes, scores))])]
    for kind, found in scores.items():
        name = KINDS[kind]
        chart = partial(draw_class_bars, found.classes, found.average(), f'Average precision, {name}', 'AP')
        rows = [
            (label, count, *(float(value) for value in values))
            for label, count, values in zip(found.classes, found.objects, found.table(), strict=True)
        ]
        table = Table(f'{name} AP by class', ('class', 'objects', *charts.DETECTION_COLUMNS), rows)
        bars = Chart(f'classes_{name}', f'{name} AP of each class, best first', chart)
        sections.append(Section(f'Classes, {name}', '', [bars, table]))
        title = f'Precision and recall, {name}'
        sections.append(Section(title, '', precision_recall_charts(found, kind)))
    return sections


def precision_recall_charts(found: DetectionScores, kind: str) -> list[Chart]:
    """Curves of precision over recall: the mean of the classes, and each class if they are few."""
    name = KINDS[kind]
    alt = f'Precision over recall of {name} detections at ten IoU thresholds, mean of the classes'
    mean = partial(charts.draw_precision_recall, found, kind)
    found_charts = [Chart(f'precision_recall_{name}', alt, mean)]
    if 1 < len(found.classes) <= charts.NAMED_CURVES:
        alt = f'Precision over recall of {name} detections of each class'
        each = partial(charts.draw_class_curves, found, kind)
        found_charts.append(Chart(f'precision_recall_classes_{name}', alt, each))
    return found_charts


def segmentation_sections(confusion: Confusion) -> list[Section]:
    """Classes, the confusion matrix, and the most frequent mistakes."""
    values = confusion.table()
    chart = partial(draw_class_bars, confusion.classes, values[:, 0], 'Intersection over union', 'IoU')
    rows = [(name, *(float(value) for value in row)) for name, row in zip(confusion.classes, values, strict=True)]
    bars = Chart('classes', 'IoU of each class, best first', chart)
    matrix = Chart(
        'confusion',
        'Percent of the pixels of each true class given to each class',
        partial(charts.draw_confusion, confusion),
    )
    mistakes = Table(
        'the most frequent mistakes',
        ('true class', 'class given', 'pixels', 'share of the true class'),
        confusion.worst_pairs(LISTED_MISTAKES),
    )
    table = Table('by class', ('class', *charts.SEGMENTATION_COLUMNS), rows)
    return [Section('Classes', '', [bars, table]), Section('Confusion', '', [matrix, mistakes])]


def curves_section(log_folder: Path) -> list[Section]:
    """Loss and metric curves of the training that wrote its log to ``log_folder``, if there is one."""
    curves = collect_curves(read_scalars(log_folder))
    charts = [
        Chart(name, alt, partial(build_panel, draw, curves))
        for name, alt, draw, series in (
            ('curves_loss', 'Loss and its parts over time', draw_losses, curves.losses),
            ('curves_validation', 'Validation figures over time', draw_metrics, curves.metrics),
        )
        if series
    ]
    return [Section('Training', '', charts)] if charts else []


def pictures_section(pictures: Iterable[Path]) -> list[Section]:
    """A choice of drawn pictures, evenly spread; all of them lie in the folder beside the page."""
    import cv2

    paths = sorted(pictures)
    if not paths:
        return []
    count = min(SHOWN_PICTURES, len(paths))
    photos = []
    for path in (paths[i * len(paths) // count] for i in range(count)):
        # JPEG keeps a page of photographs small enough to send.
        _, data = cv2.imencode('.jpg', cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 88])
        photos.append(Photo(data.tobytes(), 'jpeg', f'{path.stem}: truth beside prediction'))
    text = f'{count} of the {len(paths)} pictures; all of them are in the folder {paths[0].parent.name}.'
    return [Section('Pictures', text, photos)]
