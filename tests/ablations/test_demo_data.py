"""The data of the ablation demo: classes compared with a simple search, and consistency of both layouts."""

import json
from pathlib import Path

import numpy as np
import pytest

from swin_backbone.ablations.demo_data import (
    CLASSES,
    COLOURS,
    NeighboursSpec,
    classes_of,
    write_neighbours,
)
from swin_backbone.datasets.generated import read_data_set
from swin_backbone.errors import InputError

Image = pytest.importorskip('PIL.Image', reason='Pillow is not installed')
SPEC = NeighboursSpec(train_count=3, val_count=2)


def nearest(colour: np.ndarray, ring: np.ndarray, row: int, column: int, reach: int) -> int:
    """Find the class of one shape by searching to the right."""
    for there in range(column + 1, min(column + reach, colour.shape[1] - 1) + 1):
        if colour[row, there] >= 0 and ring[row, there] == ring[row, column]:
            return int(colour[row, there]) + 1
    return 0


@pytest.mark.parametrize('reach', [1, 2, 3, 9])
def test_the_class_is_the_colour_of_the_nearest_shape_of_the_same_form(reach: int) -> None:
    rng = np.random.default_rng(reach)
    colour, ring = rng.integers(-1, 3, (5, 7)), rng.random((5, 7)) < 0.5
    kinds = classes_of(colour, ring, reach)
    for row, column in np.ndindex(5, 7):
        expected = -1 if colour[row, column] < 0 else nearest(colour, ring, row, column, reach)
        assert kinds[row, column] == expected


def test_the_colour_of_a_shape_is_independent_of_its_class() -> None:
    rng = np.random.default_rng(0)
    colour, ring = rng.integers(0, 3, (400, 50)), rng.random((400, 50)) < 0.5
    kinds = classes_of(colour, ring, 3)
    shares = [[np.mean(kinds[colour == own] == kind) for kind in range(4)] for own in range(3)]
    assert np.ptp(shares, axis=0).max() < 0.02


def test_masks_labels_and_colours_of_an_image_agree() -> None:
    image = NeighboursSpec(noise=0).render(np.random.default_rng(1))
    covered = np.zeros((128, 128), int)
    for instance in image.instances:
        covered += instance.mask
        assert (image.semantic[instance.mask] == instance.kind + 1).all()
        colours = {tuple(colour) for colour in image.image[instance.mask]}
        assert len(colours) == 1 and colours <= set(COLOURS.values())
    assert covered.max() == 1
    assert ((image.semantic > 0) == (covered == 1)).all()


def test_both_layouts_have_the_same_shapes_and_are_not_written_again(tmp_path: Path) -> None:
    summary = write_neighbours(tmp_path / 'set', SPEC)
    assert summary.written and [summary.counts[split]['images'] for split in ('train', 'val')] == [3, 2]
    content = json.loads((tmp_path / 'set/annotations/instances_val2017.json').read_text())
    assert [category['name'] for category in content['categories']] == list(CLASSES)
    for image in content['images']:
        labels = np.asarray(Image.open(tmp_path / 'set/annotations/validation' / f'{image["id"]:012d}.png'))
        own = [entry for entry in content['annotations'] if entry['image_id'] == image['id']]
        for kind in range(len(CLASSES)):
            area = sum(entry['area'] for entry in own if entry['category_id'] == kind + 1)
            assert area == (labels == kind + 1).sum()
    assert not write_neighbours(tmp_path / 'set', SPEC).written
    found = read_data_set(tmp_path / 'set', SPEC)
    assert found is not None and found.counts == summary.counts


def test_an_existing_data_set_with_other_options_is_an_error(tmp_path: Path) -> None:
    write_neighbours(tmp_path / 'set', SPEC)
    with pytest.raises(InputError, match='another neighbours data set'):
        write_neighbours(tmp_path / 'set', NeighboursSpec(train_count=3, val_count=2, reach=1))


@pytest.mark.parametrize(
    ('values', 'message'),
    [(dict(pitch=10), 'pitch of a neighbours'), (dict(pitch=19, width=512), 'fewer than 100 places')],
)
def test_impossible_options_are_an_error(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NeighboursSpec(**values)
