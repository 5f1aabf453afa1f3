"""COCO's average precision from its published definition, in plain loops over small sets: no pycocotools.

https://cocodataset.org/#detection-eval: detections of an image and class, at most 100, are matched by falling score to
the object with the greatest IoU that is free; crowds may be matched by many and count neither way; objects outside of a
range of areas, and detections outside of it that match nothing, count neither way; precision is made monotonic and read
at 101 recalls.
"""

from typing import Any

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {'': (0.0, 1e10), '_s': (0.0, 32.0**2), '_m': (32.0**2, 96.0**2), '_l': (96.0**2, 1e10)}
MAX_DETECTIONS = 100


def decode(segmentation: dict[str, Any]) -> np.ndarray:
    """A mask ``[H, W]`` from uncompressed run lengths, or from COCO's string of them."""
    counts = segmentation['counts']
    runs = counts if isinstance(counts, list) else runs_of(counts)
    height, width = segmentation['size']
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def runs_of(text: str | bytes) -> list[int]:
    """Run lengths from COCO's string: five bits a sign, low first; later runs are differences to the last but one."""
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
    """Pixels inside of outlines along pixel borders: those with an odd number of upright edges to their right."""
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        points = list(zip(outline[0::2], outline[1::2], strict=True))
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if x0 == x1:
                mask[min(y0, y1) : max(y0, y1), :x0] ^= True
    return mask


def box_iou(found: list[float], truth: list[float], crowd: bool) -> float:
    """Of two boxes (x, y, width, height); for a crowd, the share of the detection that it covers."""
    width = min(found[0] + found[2], truth[0] + truth[2]) - max(found[0], truth[0])
    height = min(found[1] + found[3], truth[1] + truth[3]) - max(found[1], truth[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    union = found[2] * found[3] if crowd else found[2] * found[3] + truth[2] * truth[3] - common
    return common / union


def mask_iou(found: np.ndarray, truth: np.ndarray, crowd: bool) -> float:
    """The same of two masks."""
    common = int((found & truth).sum())
    union = int(found.sum()) if crowd else int((found | truth).sum())
    return common / union if union else 0.0


def judge(
    found: list[dict[str, Any]], truths: list[dict[str, Any]], ious: np.ndarray, iou: float, area: tuple[float, float]
) -> tuple[list[tuple[float, bool, bool]], int]:
    """Score, rightness and whether it counts, per detection of one image and class; and the objects to be found."""
    outside = [bool(truth['iscrowd']) or not area[0] <= truth['area'] <= area[1] for truth in truths]
    order = sorted(range(len(truths)), key=lambda j: outside[j])
    taken: set[int] = set()
    verdicts = []
    for i, detection in enumerate(found):
        best, match = min(iou, 1 - 1e-10), None
        for j in order:
            if j in taken and not truths[j]['iscrowd']:
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
    """The mean of precision at 101 recalls."""
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


def evaluate(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """COCO's six figures for 'bbox' or 'segm', by the names of MMDetection; -1 where nothing is to be found."""
    sizes = {image['id']: (image['height'], image['width']) for image in truth['images']}
    objects, found = [dict(one) for one in truth['annotations']], [dict(one) for one in results]
    for one in objects:
        outlines = one['segmentation']
        one['mask'] = fill(outlines, *sizes[one['image_id']]) if isinstance(outlines, list) else decode(outlines)
    for one in found:
        one['mask'] = decode(one['segmentation']) if kind == 'segm' else None
        one['area'] = float(one['mask'].sum()) if kind == 'segm' else one['bbox'][2] * one['bbox'][3]
    pairs = prepare(truth, objects, found, kind)
    values: dict[str, list[float]] = {f'{kind}_mAP{name}': [] for name in ('', '_50', '_75', '_s', '_m', '_l')}
    for category in truth['categories']:
        for name, area in AREAS.items():
            scores = [score_category(pairs[category['id']], iou, area) for iou in THRESHOLDS]
            if scores[0] is not None:
                values[f'{kind}_mAP{name}'] += scores
                if not name:
                    values[f'{kind}_mAP_50'].append(scores[0])
                    values[f'{kind}_mAP_75'].append(scores[5])
    return {name: sum(scores) / len(scores) if scores else -1.0 for name, scores in values.items()}


def prepare(truth: dict[str, Any], objects: list[Any], found: list[Any], kind: str) -> dict[int, list[Any]]:
    """Per category, and per image: detections by score, objects, and their IoUs ``[detections, objects]``."""
    pairs: dict[int, list[Any]] = {}
    for category in truth['categories']:
        for image in truth['images']:
            place = (image['id'], category['id'])
            here = [one for one in objects if (one['image_id'], one['category_id']) == place]
            seen = [one for one in found if (one['image_id'], one['category_id']) == place]
            seen = sorted(seen, key=lambda one: -one['score'])[:MAX_DETECTIONS]
            measure, key = (box_iou, 'bbox') if kind == 'bbox' else (mask_iou, 'mask')
            ious = np.array([[measure(a[key], b[key], bool(b['iscrowd'])) for b in here] for a in seen])
            pairs.setdefault(category['id'], []).append((seen, here, ious.reshape(len(seen), len(here))))
    return pairs


def score_category(images: list[Any], iou: float, area: tuple[float, float]) -> float | None:
    """Average precision of one category; None where it has no objects in the range."""
    verdicts, objects = [], 0
    for seen, here, ious in images:
        judged, count = judge(seen, here, ious, iou, area)
        verdicts += judged
        objects += count
    return average_precision(verdicts, objects) if objects else None
