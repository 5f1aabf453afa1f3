"""Pipelines that report which image a step failed on, or skip unreadable images."""

import logging
from typing import Any

from mmengine.dataset import Compose

from swin_backbone.datasets.image_check import problem_of
from swin_backbone.engine.error_explanations import shorten
from swin_backbone.errors import RunFailure

KNOWN = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'swin_backbone')
"""Packages whose pipeline steps are tested, so that an error in one is caused by the data or the config."""

LOGGER = logging.getLogger('swin_backbone')


class NamingCompose(Compose):
    """A pipeline whose errors name the image.

    If the step that loads images has ``ignore_empty=True``, unreadable images are logged and counted, and the data set
    uses another image in training.

    Args:
        steps: a built pipeline.
    """

    def __init__(self, steps: Compose) -> None:
        super().__init__(steps.transforms)
        self.replaced: set[str] = set()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """Apply the steps.

        Raises:
            RunFailure: if a step fails.
        """
        image, label_map = str(data.get('img_path')), data.get('seg_map_path')
        for number, step in enumerate(self.transforms):
            name, replace = type(step).__name__, getattr(step, 'ignore_empty', False)
            try:
                result = step(data)
            except Exception as error:
                if not replace:
                    if type(step).__module__.partition('.')[0] not in KNOWN and not problem_of(image):
                        raise  # the user needs the traceback of a custom step
                    raise RunFailure(failure(image, label_map, f'{number} ({name})', error, number == 0)) from error
                result = None
            if result is None:
                if replace:
                    self.count(image)
                return None
            data = result
        return data

    def count(self, image: str) -> None:
        """Log an image that is replaced by another one, once per process."""
        if image not in self.replaced:
            self.replaced.add(image)
            LOGGER.warning(
                'image %s cannot be read (%s): another image is used (unreadable images in this process: %d)',
                image,
                problem_of(image),
                len(self.replaced),
            )


def failure(image: str, label_map: str | None, step: str, error: Exception, first: bool) -> str:
    """Return the message for a pipeline step that failed."""
    problem = problem_of(image)
    if problem:
        remedy = ', or set ignore_empty=True in LoadImageFromFile to use another image in training'
        return (
            f'image {image} cannot be read ({problem}): replace it, remove it from the data{remedy if first else ""}.'
        )
    if label_map and (problem := problem_of(label_map)):
        return f'label map {label_map} of {image} cannot be read ({problem}): save it again as PNG.'
    return (
        f'step {step} of the pipeline failed on image {image}: {type(error).__name__}: {shorten(str(error))}. Check '
        'the data with --data-check full.'
    )


def name_images(data: Any) -> None:
    """Make the pipelines of a data set and of its inner data sets name the image when a step fails."""
    if isinstance(getattr(data, 'pipeline', None), Compose):
        data.pipeline = NamingCompose(data.pipeline)
    for inner in (getattr(data, 'dataset', None), *getattr(data, 'datasets', ())):
        if inner is not None:
            name_images(inner)
