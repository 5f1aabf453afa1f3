"""The prediction for one image as plain arrays."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swin_backbone.errors import InputError
from swin_backbone.evaluation.drawing import Colour, Image, Instances, draw_instances, draw_labels
from swin_backbone.evaluation.gallery import SCORE_THRESHOLD, as_instances, palette_of, read_image

IGNORED = 255
"""Label of pixels whose class was not selected."""


class Prediction(dict[str, Any]):
    """The prediction for one image: a dict of arrays with methods for drawing and conversion.

    Predictions of detectors have ``boxes`` ``[N, 4]`` (left, top, right, bottom in pixels), ``scores`` ``[N]`` in
    descending order, ``labels`` ``[N]``, and ``masks``, a bool array ``[N, H, W]`` or None. Predictions of segmenters
    have ``label_map`` ``[H, W]``. Both have ``names``, the list of class names indexed by label.

    Attributes:
        source: the path of the image, or the image itself as an RGB array ``[H, W, 3]``.
        palette: one colour per label.
    """

    def __init__(self, content: dict[str, Any], source: Path | Image, palette: Sequence[Colour]) -> None:
        super().__init__(content)
        self.source = source
        self.palette = palette

    @property
    def image(self) -> Image:
        """The image as an RGB array ``[H, W, 3]``."""
        return read_image(str(self.source)) if isinstance(self.source, Path) else self.source

    def select(self, threshold: float = 0.0, classes: Sequence[str] | None = None) -> 'Prediction':
        """Select objects with a score of at least ``threshold`` and of ``classes``; in label maps, others become 255.

        Raises:
            InputError: if the model has no such class.
        """
        labels = labels_of(classes, self['names'])
        if 'label_map' in self:
            kept = np.where(np.isin(self['label_map'], labels), self['label_map'], np.uint8(IGNORED))
            return Prediction({**self, 'label_map': kept}, self.source, self.palette)
        rows = (self['scores'] >= threshold) & np.isin(self['labels'], labels)
        chosen = {key: self[key][rows] for key in ('boxes', 'scores', 'labels')}
        masks = None if self['masks'] is None else self['masks'][rows]
        return Prediction({**self, **chosen, 'masks': masks}, self.source, self.palette)

    def draw(self, threshold: float = SCORE_THRESHOLD) -> Image:
        """Draw the prediction on the image and return it as RGB ``[H, W, 3]``, without objects below ``threshold``."""
        if 'label_map' in self:
            return draw_labels(self.image, self['label_map'], self['names'], self.palette, IGNORED, scale=1.0)
        found = self.select(threshold)
        instances = Instances(found['boxes'], found['labels'], found['scores'], found['masks'])
        return draw_instances(self.image, instances, self['names'], self.palette, scale=1.0)

    def to_supervision(self) -> Any:
        """Convert a detector's prediction to ``supervision.Detections``.

        Raises:
            InputError: if it is a label map, or supervision is not installed.
        """
        if 'label_map' in self:
            raise InputError(
                "to_supervision() converts objects, but this prediction is a label map: use ['label_map']."
            )
        try:
            import supervision
        except ImportError as error:
            raise InputError('to_supervision() needs supervision: run pip install supervision.') from error
        names = np.array([self['names'][label] for label in self['labels']], str)
        return supervision.Detections(
            xyxy=self['boxes'],
            mask=self['masks'],
            confidence=self['scores'],
            class_id=self['labels'],
            data={'class_name': names},
        )


def labels_of(classes: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    """Return the labels of classes; all labels for None.

    Raises:
        InputError: if a class does not exist.
    """
    for name in classes or ():
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            some = ', '.join(names[:10]) + (' ...' if len(names) > 10 else '')
            raise InputError(f'the model has no class {name!r}: ' + (f'did you mean {close[0]!r}?' if close else some))
    return [label for label, name in enumerate(names) if classes is None or name in classes]


def prediction_of(sample: Any, meta: dict[str, Any], source: Path | Image) -> Prediction:
    """Convert a data sample of either toolkit with predictions.

    Args:
        sample: data sample with ``pred_sem_seg`` or ``pred_instances``.
        meta: metainfo of the data set with ``classes`` and, optionally, ``palette``.
        source: the image or its path.
    """
    names, palette = list(meta['classes']), palette_of(meta)
    if 'pred_sem_seg' in sample:
        label_map = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
        return Prediction(dict(label_map=label_map.astype(np.uint8), names=names), source, palette)
    found = as_instances(sample.pred_instances)
    scores: NDArray[np.float32] = np.asarray(found.scores, np.float32)
    # Most results are sorted already. A slice avoids copying the masks, which are large.
    in_order = bool((scores[:-1] >= scores[1:]).all())
    order = slice(None) if in_order else np.argsort(-scores, kind='stable')
    content = dict(
        boxes=np.asarray(found.boxes[order], np.float32),
        scores=scores[order],
        labels=found.labels[order],
        names=names,
        masks=None if found.masks is None else found.masks[order],
    )
    return Prediction(content, source, palette)
