"""COCO encodings of masks, decoded by pycocotools."""

import numpy as np
import pytest

from swin_backbone.datasets.generated import coco_annotation, mask_to_polygons, mask_to_rle

coco_mask = pytest.importorskip('pycocotools.mask', reason='pycocotools is not installed')


def random_masks():
    rng = np.random.default_rng(0)
    for _ in range(400):
        mask = rng.random(rng.integers(1, 10, 2)) < rng.uniform(0.2, 0.95)
        if mask.any():
            yield mask


def test_run_lengths_decode_to_the_mask():
    for mask in random_masks():
        decoded = coco_mask.decode(coco_mask.frPyObjects(mask_to_rle(mask), *mask.shape))
        assert np.array_equal(decoded, mask)


def test_polygons_rasterise_to_the_mask():
    whole = 0
    for mask in random_masks():
        polygons = mask_to_polygons(mask)
        if polygons is not None:
            decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape)))
            assert np.array_equal(decoded, mask)
            whole += 1
    assert whole > 100


@pytest.mark.parametrize(
    ('rows', 'polygons'),
    [
        (['##', '##'], [[0, 0, 2, 0, 2, 2, 0, 2]]),
        (['#.', '.#'], [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]),
        (['.#.', '###'], [[0, 1, 1, 1, 1, 0, 2, 0, 2, 1, 3, 1, 3, 2, 0, 2]]),
        (['###', '#.#', '###'], None),
    ],
    ids=['square', 'corner to corner', 'hat', 'hole'],
)
def test_polygons_of_small_masks(rows, polygons):
    mask = np.array([[cell == '#' for cell in row] for row in rows])
    assert mask_to_polygons(mask) == polygons


def test_crowds_and_masks_with_holes_are_encoded_as_run_lengths():
    mask = np.zeros((6, 8), dtype=bool)
    mask[1:5, 2:7] = True
    plain = coco_annotation(mask, crowd=False)
    assert plain == {'iscrowd': 0, 'area': 20, 'bbox': [2, 1, 5, 4], 'segmentation': [[2, 1, 7, 1, 7, 5, 2, 5]]}
    assert coco_annotation(mask, crowd=True)['segmentation'] == mask_to_rle(mask)
    mask[2, 3] = False
    assert coco_annotation(mask, crowd=False)['segmentation'] == mask_to_rle(mask)
