"""COCO's average precision by its published definition, with loops over small data sets and without pycocotools.

https://cocodataset.org/#detection-eval: at most 100 detections per image and class are matched, by descending score, to
the unmatched object with the greatest IoU. Crowds may be matched several times and are ignored in the score. Objects
outside of an area range, and unmatched detections outside of it, are ignored. Precision is made monotonic and sampled
at 101 recalls.
"""

from typing import Any

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {'': (0.0, 1e10), '_s': (0.0, 32.0**2), '_m': (32.0**2, 96.0**2), '_l': (96.0**2, 1e10)}
MAX_DETECTIONS = 100


def decode(segmentation: dict[str, Any]) -> np.ndarray:
    """Decode a mask ``[H, W]`` from uncompressed or compressed RLE."""
    counts = segmentation['counts']
    runs = counts if isinstance(counts, list) else runs_of(counts)
    height, width = segmentation['size']
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def runs_of(text: str | bytes) -> list[int]:
    """Decode run lengths from compressed RLE: 5 bits per character, low bits first; later runs are differences."""
    codes = [code - 48 for code in (text.encode() if isinstance(text, str) else text)]
    runs: list[int] = []
    i = 0
    while i < len(codes):
        value, shift = 0, 0
        while True:
            code = codes[i]
            i += 1
            value |= (code & 0x1F) << shift
            shift += 5
            if not code & 0x20:
                break
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def fill(outlines: list[list[int]], height: int, width: int) -> np.ndarray:
    """Fill outlines along pixel borders: pixels with an odd number of vertical edges to their right are inside."""
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        points = list(zip(outline[0::2], outline[1::2], strict=True))
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if x0 == x1:
                mask[min(y0, y1) : max(y0, y1), :x0] ^= True
    return mask


def box_iou(found: list[float], ground_truth: list[float], crowd: bool) -> float:
    """Compute the IoU of two boxes (x, y, width, height); for a crowd, the covered fraction of the detection."""
    width = min(found[0] + found[2], ground_truth[0] + ground_truth[2]) - max(found[0], ground_truth[0])
    height = min(found[1] + found[3], ground_truth[1] + ground_truth[3]) - max(found[1], ground_truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    union = found[2] * found[3] if crowd else found[2] * found[3] + ground_truth[2] * ground_truth[3] - common
    return common / union


def mask_iou(found: np.ndarray, ground_truth: np.ndarray, crowd: bool) -> float:
    """Compute the IoU of two masks; for a crowd, the covered fraction of the detection."""
    common = int((found & ground_truth).sum())
    union = int(found.sum()) if crowd else int((found | ground_truth).sum())
    return common / union if union else 0.0


def judge(
    found: list[dict[str, Any]],
    ground_truths: list[dict[str, Any]],
    ious: np.ndarray,
    iou: float,
    area: tuple[float, float],
) -> tuple[list[tuple[float, bool, bool]], int]:
    """Return (score, correct, counted) of each detection of an image and class, and the number of objects."""
    outside = [
        bool(ground_truth['iscrowd']) or not area[0] <= ground_truth['area'] <= area[1]
        for ground_truth in ground_truths
    ]
    order = sorted(range(len(ground_truths)), key=lambda j: outside[j])
    taken: set[int] = set()
    verdicts = []
    for i, detection in enumerate(found):
        best, match = min(iou, 1 - 1e-10), None
        for j in order:
            if j in taken and not ground_truths[j]['iscrowd']:
                continue
            if match is not None and not outside[match] and outside[j]:
                break
            if ious[i, j] < best:
                continue
            best, match = ious[i, j], j
        if match is not None:
            taken.add(match)
            verdicts.append((detection['score'], True, not outside[match]))
        else:
            verdicts.append((detection['score'], False, area[0] <= detection['area'] <= area[1]))
    return verdicts, sum(not out for out in outside)


def average_precision(verdicts: list[tuple[float, bool, bool]], objects: int) -> float:
    """Return the mean of precision at 101 recalls."""
    ordered = [verdict for verdict in sorted(verdicts, key=lambda verdict: -verdict[0]) if verdict[2]]
    hits, recalls, precisions = 0, [], []
    for place, (_, right, _) in enumerate(ordered, start=1):
        hits += right
        recalls.append(hits / objects)
        precisions.append(hits / place)
    for i in range(len(precisions) - 2, -1, -1):
        precisions[i] = max(precisions[i], precisions[i + 1])
    total = 0.0
    for least in RECALLS:
        reached = [precision for recall, precision in zip(recalls, precisions, strict=True) if recall >= least]
        total += reached[0] if reached else 0.0
    return total / len(RECALLS)


def evaluate(ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Compute COCO's six scores for 'bbox' or 'segm' with MMDetection's names; -1 without objects."""
    sizes = {image['id']: (image['height'], image['width']) for image in ground_truth['images']}
    objects, found = [dict(one) for one in ground_truth['annotations']], [dict(one) for one in results]
    for one in objects:
        outlines = one['segmentation']
        one['mask'] = fill(outlines, *sizes[one['image_id']]) if isinstance(outlines, list) else decode(outlines)
    for one in found:
        one['mask'] = decode(one['segmentation']) if kind == 'segm' else None
        one['area'] = float(one['mask'].sum()) if kind == 'segm' else one['bbox'][2] * one['bbox'][3]
    pairs = prepare(ground_truth, objects, found, kind)
    values: dict[str, list[float]] = {f'{kind}_mAP{name}': [] for name in ('', '_50', '_75', '_s', '_m', '_l')}
    for category in ground_truth['categories']:
        for name, area in AREAS.items():
            scores = [score_category(pairs[category['id']], iou, area) for iou in THRESHOLDS]
            if scores[0] is not None:
                values[f'{kind}_mAP{name}'] += scores
                if not name:
                    values[f'{kind}_mAP_50'].append(scores[0])
                    values[f'{kind}_mAP_75'].append(scores[5])
    return {name: sum(scores) / len(scores) if scores else -1.0 for name, scores in values.items()}


def prepare(ground_truth: dict[str, Any], objects: list[Any], found: list[Any], kind: str) -> dict[int, list[Any]]:
    """Return, per category and image, sorted detections, objects, and their IoUs ``[detections, objects]``."""
    pairs: dict[int, list[Any]] = {}
    for category in ground_truth['categories']:
        for image in ground_truth['images']:
            place = (image['id'], category['id'])
            here = [one for one in objects if (one['image_id'], one['category_id']) == place]
            seen = [one for one in found if (one['image_id'], one['category_id']) == place]
            seen = sorted(seen, key=lambda one: -one['score'])[:MAX_DETECTIONS]
            measure, key = (box_iou, 'bbox') if kind == 'bbox' else (mask_iou, 'mask')
            ious = np.array([[measure(a[key], b[key], bool(b['iscrowd'])) for b in here] for a in seen])
            pairs.setdefault(category['id'], []).append((seen, here, ious.reshape(len(seen), len(here))))
    return pairs


def score_category(images: list[Any], iou: float, area: tuple[float, float]) -> float | None:
    """Compute the average precision of a category; None if it has no objects in the range."""
    verdicts, objects = [], 0
    for seen, here, ious in images:
        judged, count = judge(seen, here, ious, iou, area)
        verdicts += judged
        objects += count
    return average_precision(verdicts, objects) if objects else None
