"""The report page: self-contained, with alternative texts for all images."""

import base64
import csv
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('matplotlib', reason='Matplotlib is not installed')
cv2 = pytest.importorskip('cv2', reason='OpenCV is not installed')

from swin_backbone.evaluation.charts import Confusion, DetectionScores, draw_class_bars  # noqa: E402
from swin_backbone.evaluation.curves import build_curves, collect_curves  # noqa: E402
from swin_backbone.evaluation.page import Section, Table, number, render_page  # noqa: E402
from swin_backbone.evaluation.report import (  # noqa: E402
    curves_section,
    detection_sections,
    images_section,
    segmentation_sections,
    write_report,
)
from swin_backbone.evaluation.style import DARK, LIGHT, render  # noqa: E402

PNG = b'\x89PNG\r\n'


class Reader(HTMLParser):
    """Collects the links and images of a page, and checks that its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.addresses += [values[name] or '' for name in ('src', 'href', 'srcset') if name in values]
        if tag == 'img':
            self.images.append(values)
        if tag not in ('img', 'meta', 'source', 'link', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def scores(classes: int) -> DetectionScores:
    rng = np.random.default_rng(0)
    precision = np.sort(rng.random((10, 101, classes, 4)), axis=1)[:, ::-1]
    precision[..., 0, 3] = -1
    names = tuple(f'class {i}' for i in range(classes))
    return DetectionScores(names, np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101), precision, (3,) * classes)


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding='utf-8'))
    assert reader.open == []
    return reader


@pytest.mark.parametrize('classes', [2, 45])
def test_a_detection_report_is_self_contained(tmp_path: Path, classes: int) -> None:
    found = scores(classes)
    sections = detection_sections({'bbox': found, 'segm': found})
    page = write_report(tmp_path, 'a <b> report', {'box AP': 0.25}, {'config': 'x & y.py'}, sections)
    reader = read(page)
    names = {'sizes', 'classes_box', 'classes_mask', 'precision_recall_box', 'precision_recall_mask'}
    if classes == 2:  # few enough for a curve each
        names |= {'precision_recall_classes_box', 'precision_recall_classes_mask'}
    assert len(reader.images) == len(names) and all(image['alt'] for image in reader.images)
    anchors = set(re.findall('id="([^"]+)"', page.read_text()))
    for address in reader.addresses:
        assert address.startswith('data:image/') or address.removeprefix('#') in anchors
    assert 'a &lt;b&gt; report' in page.read_text() and 'x &amp; y.py' in page.read_text()
    assert not re.search('https?://|<script|@import|url\\(', page.read_text())
    assert {path.stem for path in tmp_path.glob('*.png')} == names
    rows = list(csv.reader((tmp_path / 'classes_box.csv').open()))
    assert rows[0] == ['class', 'objects', 'AP', 'AP50', 'AP75', 'small', 'medium', 'large']
    assert len(rows) == classes + 1
    assert float(rows[2][2]) == pytest.approx(found.precision[:, :, 1, 0].mean(), abs=1e-12)
    assert rows[1][7] == 'nan'


def test_segmentation_tables_are_computed_from_the_confusion_matrix(tmp_path: Path) -> None:
    matrix = np.array([[6, 2, 0], [1, 9, 0], [0, 0, 0]])
    confusion = Confusion(('sky', 'sea', 'none'), matrix)
    expected = [[6 / 9, 6 / 8, 6 / 7, 8 / 18], [9 / 12, 9 / 10, 9 / 11, 10 / 18], [np.nan, np.nan, np.nan, 0]]
    np.testing.assert_allclose(confusion.table(), expected)
    assert confusion.worst_pairs(5) == [('sky', 'sea', 2, 0.25), ('sea', 'sky', 1, 0.1)]
    page = write_report(tmp_path, 'demo', {}, {}, segmentation_sections(confusion))
    assert {path.stem for path in tmp_path.glob('*.png')} == {'classes', 'confusion'}
    assert next(image['alt'] for image in read(page).images) == 'IoU of each class, best first'


def test_images_are_evenly_selected_and_embedded(tmp_path: Path) -> None:
    for i in range(30):
        cv2.imwrite(str(tmp_path / f'{i:02d}.png'), np.full((8, 8, 3), i, np.uint8))
    (section,) = images_section(tmp_path.glob('*.png'))
    assert len(section.items) == 24 and section.text.startswith('24 of the 30 images')
    shown = [item.alt[:2] for item in section.items]
    assert shown == sorted(set(shown)) and shown[0] == '00'
    embedded = re.search('base64,([^"]+)"', render_page('t', {}, {}, [section]))
    assert embedded is not None and base64.b64decode(embedded[1])[:2] == b'\xff\xd8'
    assert images_section([]) == []


def test_the_curves_section_depends_on_the_log(tmp_path: Path) -> None:
    assert curves_section(tmp_path) == []
    log = tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 2.5, "iter": 1, "step": 1}\n{"loss": 1.5, "iter": 2, "step": 2}\n')
    (section,) = curves_section(tmp_path)
    assert [chart.name for chart in section.items] == ['curves_loss']
    with log.open('a') as file:
        file.write('{"mIoU": 92.5, "step": 2}\n')
    (section,) = curves_section(tmp_path)
    assert [chart.name for chart in section.items] == ['curves_loss', 'curves_validation']
    assert all(render(chart.build).startswith(PNG) for chart in section.items)


def test_collected_metrics_are_fractions_by_epoch_or_iteration() -> None:
    records = [
        {'loss': 2.5, 'loss_mask': 1.0, 'iter': 1, 'epoch': 1, 'step': 1},
        {'mIoU': 92.5, 'coco/bbox_mAP': 0.5, 'step': 1},
        {'loss': 2.0, 'iter': 1, 'epoch': 1, 'step': 1},
    ]
    curves = collect_curves(records)
    assert curves.losses == {'loss': [(1, 2.0)], 'loss_mask': [(1, 1.0)]} and curves.unit == 'epoch'
    assert curves.metrics == {'mIoU': [(1, 0.925)], 'box AP': [(1, 0.5)]}
    assert collect_curves([{'loss': 2.5, 'iter': 1, 'step': 1}]).unit == 'iteration'
    assert render(partial(build_curves, curves)).startswith(PNG)


def test_figures_have_the_background_of_their_theme() -> None:
    def build(theme: Any) -> Any:
        return draw_class_bars(['a', 'b'], np.array([0.5, np.nan]), 'title', 'unit', theme)

    light, dark = render(build, LIGHT), render(build, DARK)
    assert light.startswith(PNG) and dark.startswith(PNG) and light != dark
    corners = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[0, 0].mean() for data in (light, dark)]
    assert corners[0] > 250 and corners[1] < 60


@pytest.mark.parametrize(
    ('value', 'text'),
    [(0.12345, '0.123'), (float('nan'), '–'), (12345, '12,345'), (45.678, '45.7'), (np.float64(0.5), '0.500')],
)
def test_numbers_are_formatted_with_few_decimals(value: Any, text: str) -> None:
    assert number(value) == text


def test_a_table_escapes_and_marks_missing_values() -> None:
    html = render_page('t', {}, {}, [Section('S', '', [Table('c', ('a', 'b'), [('x<y', float('nan'))])])])
    assert '<td class="text">x&lt;y</td><td>–</td>' in html
