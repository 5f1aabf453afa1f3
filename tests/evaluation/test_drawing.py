"""Drawings of ground truth and predictions, checked at pixels with known colours."""

import numpy as np
import pytest

pytest.importorskip('matplotlib', reason='Matplotlib is not installed')
pytest.importorskip('cv2', reason='OpenCV is not installed')
pytest.importorskip('PIL', reason='Pillow is not installed')

from swin_backbone.evaluation.drawing import (
    CAPTION_HEIGHT,
    GAP,
    IGNORED,
    MAX_SIDE,
    MIN_WIDTH,
    WRONG,
    Instances,
    display_scale,
    draw_errors,
    draw_instances,
    draw_labels,
    fallback_palette,
    free_place,
    region_centres,
    side_by_side,
)

PALETTE = [(250, 0, 0), (0, 0, 250)]
CLASSES = ['red', 'blue']


def grey(height: int = 100, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def close(pixel: np.ndarray, colour: tuple[int, ...], slack: int = 12) -> bool:
    return bool((np.abs(pixel.astype(int) - np.array(colour)) <= slack).all())


def test_small_images_are_enlarged_and_large_ones_reduced() -> None:
    assert round(display_scale(128, 128) * 128) == MIN_WIDTH
    assert display_scale(480, 640) == 1.0
    assert round(display_scale(3000, 4000) * 4000) == MAX_SIDE


@pytest.mark.parametrize('size', [(1, 1), (128, 3), (1, 5000), (5000, 1), (899, 2)])
def test_images_of_any_shape_are_drawn_within_the_size_limit(size: tuple[int, int]) -> None:
    image = draw_labels(grey(*size), np.zeros(size, np.uint8), CLASSES, PALETTE)
    assert min(image.shape[:2]) >= 1 and max(image.shape[:2]) <= MAX_SIDE
    found = Instances(
        np.array([[0.0, 0, size[1], size[0]]]), np.array([1]), np.array([0.75]), np.ones((1, *size), bool)
    )
    assert draw_instances(grey(*size), found, CLASSES, PALETTE).shape == image.shape
    assert draw_errors(grey(*size), np.zeros(size, np.uint8), np.ones(size, np.uint8)).shape == image.shape


def test_only_pixels_of_a_mask_are_tinted() -> None:
    mask = np.zeros((1, 100, 120), bool)
    mask[0, 40:90, 30:100] = True
    found = Instances(np.array([[30.0, 40, 100, 90]]), np.array([1]), np.array([0.75]), mask)
    image = draw_instances(grey(), found, CLASSES, PALETTE)
    scale = MIN_WIDTH / 120
    assert image.shape == (round(100 * scale), MIN_WIDTH, 3)
    assert close(image[int(65 * scale), int(65 * scale)], (55, 55, 167))
    assert close(image[int(95 * scale), int(65 * scale)], (100, 100, 100))


def test_the_highest_score_is_on_top_and_crowds_are_grey() -> None:
    masks = np.ones((2, 600, 640), bool)
    boxes = np.array([[0.0, 0, 640, 600]] * 2)
    both = Instances(boxes, np.array([0, 1]), np.array([0.9, 0.4]), masks)
    red, _, blue = draw_instances(grey(600, 640), both, CLASSES, PALETTE)[300, 320]
    assert red > blue
    crowd = Instances(boxes[:1], np.array([-1]), None, masks[:1])
    pixel = draw_instances(grey(600, 640), crowd, CLASSES, PALETTE)[300, 320]
    assert pixel[0] == pixel[1] == pixel[2] > 100


def test_label_maps_errors_and_ignored_pixels_have_the_expected_colours() -> None:
    truth = np.zeros((600, 640), np.uint8)
    truth[:, 320:], truth[:50] = 1, 255
    labels = np.zeros((600, 640), np.uint8)
    image = draw_labels(grey(600, 640), truth, CLASSES, PALETTE)
    assert close(image[500, 100], (190, 40, 40)) and close(image[500, 600], (40, 40, 190))
    assert close(image[10, 600], tuple(int(40 + 0.6 * part) for part in IGNORED))
    errors = draw_errors(grey(600, 640), truth, labels)
    assert close(errors[500, 600], tuple(int(0.25 * 150 + 0.75 * part) for part in WRONG))
    assert close(errors[500, 100], (150, 150, 150)) and close(errors[10, 600], IGNORED, 0)


def test_names_are_placed_inside_large_regions() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:25, 5:25], mask[30:55, 40:75], mask[0, 79] = True, True, True
    centres = region_centres(mask)
    assert len(centres) == 2 and all(mask[y, x] for x, y in centres)


def test_overlapping_tags_are_moved_down() -> None:
    placed: list[tuple[float, float, float, float]] = []
    for _ in range(3):
        placed.append(free_place((10, 20, 60, 35), placed))
    placed.append(free_place((50, 25, 90, 40), placed))
    assert [top for _, top, _, _ in placed] == [20, 36, 52, 68]
    assert free_place((61, 20, 90, 35), placed[:3]) == (61, 20, 90, 35)


def test_side_by_side_keeps_panels_and_captions_whole() -> None:
    sheet = side_by_side([grey(), grey()], ['ground truth', 'prediction'])
    assert sheet.shape == (100 + CAPTION_HEIGHT, 2 * 120 + GAP, 3)
    assert (sheet[-1, 119] == 100).all() and (sheet[-1, 120 + GAP] == 100).all()
    assert sheet[:CAPTION_HEIGHT].max() > 200
    narrow = side_by_side([grey(100, 5)] * 2, ['ground truth', 'prediction'])
    assert narrow.shape[1] > 2 * 60 and (narrow[-1, :5] == 100).all() and (narrow[-1, 5:60] != 100).all()


def test_generated_palettes_are_distinct() -> None:
    assert len(set(fallback_palette(40))) == 40
