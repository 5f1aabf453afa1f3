"""Predictions for any picture: drawn, and as JSON."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, DefaultScope

from swin_backbone.datasets.image_check import problem_and_darkness
from swin_backbone.engine.checkpoints import load_whole
from swin_backbone.engine.config import set_weights
from swin_backbone.engine.runner import ignore_warnings
from swin_backbone.engine.submission import without_annotations
from swin_backbone.engine.tta import innermost
from swin_backbone.errors import InputError
from swin_backbone.evaluation.gallery import draw_sample, label_map
from swin_backbone.files import write_json

LOGGER = logging.getLogger('swin_backbone')


class Predictor:
    """A detector or segmenter with the test pipeline of its config, for images outside of any data set.

    Everything is built within the toolkit's own registry scope and changes no state of the process, so
    predictors of both toolkits work beside each other.

    Args:
        config: of a detector or segmenter; changed in place.
        checkpoint: of the whole model.
        device: where it runs; by default the first GPU, or the CPU.

    Raises:
        InputError: the checkpoint is not one of this model.
    """

    def __init__(self, config: Config, checkpoint: str | Path, device: str | None = None) -> None:
        set_weights(config, 'none')
        self.scope = config.get('default_scope', 'mmdet')
        data_set = innermost(config.test_dataloader.dataset)
        with self._scope():
            self.pipeline = Compose(without_annotations(data_set.pipeline))
            self.model = revert_sync_batchnorm(MODELS.build(config.model))
            content = load_whole(self.model, checkpoint)
            meta = {key.lower(): value for key, value in content.get('meta', {}).items()}
            self.meta = meta.get('dataset_meta') or DATASETS.build(dict(data_set, lazy_init=True)).metainfo
        self.model.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()

    @contextmanager
    def _scope(self) -> Iterator[None]:
        with DefaultScope.overwrite_default_scope(self.scope), warnings.catch_warnings():
            ignore_warnings()
            yield

    @torch.no_grad()
    def __call__(self, path: str | Path) -> Any:
        """The toolkit's data sample with the prediction for a picture."""
        with self._scope():
            item = self.pipeline(dict(img_path=str(path), img_id=0))
            return self.model.test_step(pseudo_collate([item]))[0]


def find_files(source: Path) -> list[Path]:
    """A file, or all files in a folder and its folders, hidden ones left out.

    Raises:
        InputError: there is nothing.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InputError(f'there is no file or folder {source}: give an image or a folder with images.')
    files = [path for path in sorted(source.rglob('*')) if path.is_file()]
    return [path for path in files if not any(part.startswith('.') for part in path.relative_to(source).parts)]


def output_names(files: Sequence[Path], source: Path) -> list[Path]:
    """Where the outputs of each file go, without an ending: its own place, with its ending if two would collide."""
    places = [Path(path.name) if source.is_file() else path.relative_to(source) for path in files]
    stems = [place.with_suffix('') for place in places]
    return [stem if stems.count(stem) == 1 else place for stem, place in zip(stems, places, strict=True)]


def predict_files(predictor: Predictor, source: Path, out_dir: Path, threshold: float) -> Iterator[tuple[Path, str]]:
    """Predict file by file: ``<name>.png`` and ``<name>.json`` under ``out_dir``, for label maps also the map itself.

    Yields:
        Each file, and why it was skipped, or nothing.
    """
    files = find_files(source)
    for path, name in zip(files, output_names(files, source), strict=True):
        problem, dark = problem_and_darkness(path)
        if dark:
            LOGGER.warning(
                '%s: an image of 12 bits stored in 16, nearly black when read: multiply its values by 16', path
            )
        if not problem:
            write_prediction(predictor(path), predictor.meta, path, out_dir / name, threshold)
        yield path, problem


def write_prediction(sample: Any, meta: dict[str, Any], path: Path, target: Path, threshold: float) -> None:
    """Write the drawing and the JSON of one picture; ``target`` is their name without an ending."""
    import mmcv

    target.parent.mkdir(parents=True, exist_ok=True)
    drawing = draw_sample(sample, meta, threshold)
    mmcv.imwrite(drawing[..., ::-1].copy(), f'{target}.png')
    height, width = sample.ori_shape[:2]
    content: dict[str, Any] = {'file': str(path), 'width': int(width), 'height': int(height)}
    if 'pred_sem_seg' in sample:
        labels = label_map(sample.pred_sem_seg)
        map_path = Path(f'{target}_labels.png')
        mmcv.imwrite(labels, str(map_path))
        content |= {'label_map': map_path.name, 'classes': describe_labels(labels, meta['classes'])}
    else:
        content['objects'] = describe_objects(sample.pred_instances, meta['classes'], threshold)
    write_json(Path(f'{target}.json'), content)


def describe_labels(labels: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The classes of a label map, the largest first; ``label`` is their value in the map."""
    values, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind='stable')
    return [
        dict(
            label=int(values[i]),
            name=classes[values[i]],
            pixels=int(counts[i]),
            share=round(float(counts[i] / labels.size), 6),
        )
        for i in order
    ]


def describe_objects(found: Any, classes: Sequence[str], threshold: float) -> list[dict[str, Any]]:
    """Detections, the best first: boxes as (x, y, width, height) in pixels, masks in COCO's run lengths."""
    objects = []
    boxes, scores = found.bboxes.cpu().numpy(), found.scores.cpu().numpy()
    labels = found.labels.cpu().numpy()
    for i in np.argsort(-scores, kind='stable'):
        if scores[i] < threshold:
            break
        x0, y0, x1, y1 = (round(float(value), 2) for value in boxes[i])
        one = dict(
            label=int(labels[i]),
            name=classes[labels[i]],
            score=round(float(scores[i]), 4),
            bbox=[x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        )
        if 'masks' in found:
            one['segmentation'] = run_lengths(found.masks[i].cpu().numpy())
        objects.append(one)
    return objects


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed run lengths of a mask ``[H, W]``."""
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {'size': [int(side) for side in encoded['size']], 'counts': encoded['counts'].decode('ascii')}
