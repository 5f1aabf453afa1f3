"""The report on an evaluation: an HTML page, its charts as PNG files, and its tables as CSV files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2

from swin_backbone.evaluation import charts
from swin_backbone.evaluation.charts import KINDS, Confusion, DetectionScores, draw_class_bars
from swin_backbone.evaluation.curves import build_curves, collect_curves, read_scalars
from swin_backbone.evaluation.page import Chart, Photo, Section, Table, render_page
from swin_backbone.evaluation.style import HALF, render
from swin_backbone.evaluation.tables import csv_table
from swin_backbone.files import write_bytes, write_text

SHOWN_IMAGES = 24
"""Maximum number of images in the page."""

LISTED_ERRORS = 20


def write_report(
    folder: Path, title: str, scores: dict[str, float], facts: dict[str, Any], sections: Sequence[Section]
) -> Path:
    """Write ``index.html``, every chart as PNG and every table as CSV to ``folder``; return the path of the page."""
    for section in sections:
        for item in section.items:
            if isinstance(item, Chart):
                write_bytes(folder / f'{item.name}.png', render(item.build))
            elif isinstance(item, Table):
                write_text(folder / f'{section.anchor}.csv', csv_table(item.header, item.rows))
    page = folder / 'index.html'
    write_text(page, render_page(title, scores, facts, sections))
    return page


def detection_sections(scores: Mapping[str, DetectionScores]) -> list[Section]:
    """Return sections on object sizes, classes and precision-recall curves, for boxes and for masks if any."""
    alt = 'AP of all, small, medium and large objects'
    sections = [Section('Object size', '', [Chart('sizes', alt, partial(charts.draw_sizes, scores))])]
    for kind, found in scores.items():
        name, count = KINDS[kind], len(found.classes)
        build = partial(draw_class_bars, found.classes, found.average(), f'Average precision, {name}', 'AP')
        bars = Chart(f'classes_{name}', f'{name} AP of each class, best first', build)
        rows = [
            (label, objects, *map(float, values))
            for label, objects, values in zip(found.classes, found.objects, found.table(), strict=True)
        ]
        table = Table(f'{name} AP by class', ('class', 'objects', *charts.DETECTION_COLUMNS), rows)
        sections.append(Section(f'Classes, {name}', '', [bars, table]))
        alt = f'Precision over recall of {name} detections at ten IoU thresholds, mean of the classes'
        curves = [Chart(f'precision_recall_{name}', alt, partial(charts.draw_precision_recall, found, kind))]
        if 1 < count <= charts.NAMED_CURVES:
            alt = f'Precision over recall of {name} detections of each class'
            build = partial(charts.draw_class_curves, found, kind)
            curves.append(Chart(f'precision_recall_classes_{name}', alt, build))
        sections.append(Section(f'Precision and recall, {name}', '', curves))
    return sections


def segmentation_sections(confusion: Confusion) -> list[Section]:
    """Return sections on the classes, and on the confusion matrix with the most frequent errors."""
    values = confusion.table()
    build = partial(draw_class_bars, confusion.classes, values[:, 0], 'Intersection over union', 'IoU')
    bars = Chart('classes', 'IoU of each class, best first', build)
    rows = [(name, *map(float, row)) for name, row in zip(confusion.classes, values, strict=True)]
    table = Table('by class', ('class', *charts.SEGMENTATION_COLUMNS), rows)
    alt = 'Percent of the pixels of each true class that were predicted as each class'
    matrix = Chart('confusion', alt, partial(charts.draw_confusion, confusion))
    columns = ('true class', 'predicted class', 'pixels', 'share of the true class')
    errors = Table('the most frequent errors', columns, confusion.worst_pairs(LISTED_ERRORS))
    return [Section('Classes', '', [bars, table]), Section('Confusion', '', [matrix, errors])]


def curves_section(log_folder: Path) -> list[Section]:
    """Return a section with the curves of the training run that logged to ``log_folder``; [] without a log."""
    curves = collect_curves(read_scalars(log_folder))
    parts = (
        ('curves_loss', 'Loss and its parts over time', replace(curves, metrics={})),
        ('curves_validation', 'Validation scores over time', replace(curves, losses={})),
    )
    items = [Chart(name, alt, partial(build_curves, part, size=HALF)) for name, alt, part in parts if part]
    return [Section('Training', '', items)] if items else []


def images_section(images: Iterable[Path]) -> list[Section]:
    """Return a section with a selection of evenly spaced drawn images; [] without images."""
    paths = sorted(images)
    if not paths:
        return []
    count = min(SHOWN_IMAGES, len(paths))
    photos = []
    for path in (paths[i * len(paths) // count] for i in range(count)):
        # JPEG keeps the page small.
        _, data = cv2.imencode('.jpg', cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 88])
        photos.append(Photo(data.tobytes(), 'jpeg', f'{path.stem}: ground truth and prediction'))
    text = f'{count} of the {len(paths)} images; all of them are in the folder {paths[0].parent.name}.'
    return [Section('Images', text, photos)]
