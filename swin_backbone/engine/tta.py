"""Multi-scale testing of any config (``--tta``).

A view is the image at a multiple of the config's test size, with or without a horizontal flip. The papers state the
multiples for segmentation, but not for detection. These config keys change the defaults:

- ``tta_factors``: the multiples.
- ``tta_flip = False``: no flipped views.
- ``tta_pipeline``: a complete pipeline. Its ``scale_factor`` is relative to the config's test size, not to the size of
  each image as in MMSegmentation 1.x: the papers scaled the test size, and factor 1 must equal the plain test.
- ``tta_merge = 'proposals'``: merge the views of a two-stage detector like the original code.
"""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from swin_backbone.errors import InputError

SEGMENTATION_FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Factors with which the papers test UPerNet, each also flipped (Swin paper, appendix A2.3)."""

DETECTION_FACTORS = (0.75, 1.0, 1.25, 1.5)
"""Short sides of 600 to 1200 pixels for a test size of 800; the papers do not list factors for detection."""

STOCK_MODELS = {'DetTTAModel', 'SegTTAModel'}
RESIZES = {'Resize', 'FixScaleResize', 'ResizeShortestEdge'}
SIZES = ('scale', 'scale_factor', 'max_size')
META_KEYS = ('img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')


def use_tta(config: Config, factors: Sequence[float] | None = None, flips: Sequence[bool] | None = None) -> int:
    """Make a config test every image in several views and merge their predictions.

    Args:
        config: config of a detector or segmenter; changed in place.
        factors: multiples of the test size; by default ``tta_factors`` or ``tta_pipeline`` of the config.
        flips: flip values of the views, e.g. ``(False, True)``; by default according to ``tta_flip`` of the config.
            Ignored for a ``tta_pipeline``.

    Returns:
        The number of views.

    Raises:
        InputError: if views cannot be derived from the test pipeline.
    """
    detection = config.get('default_scope') != 'mmseg'
    data_set = innermost(config.test_dataloader.dataset)
    test_pipeline = data_set.pipeline
    factors = factors or config.get('tta_factors')
    if factors is None and config.get('tta_pipeline'):
        pipeline = count_from_test_size(config.tta_pipeline, test_pipeline)
    else:
        factors = factors or (DETECTION_FACTORS if detection else SEGMENTATION_FACTORS)
        flips = flips or ((False, True) if config.get('tta_flip', True) else (False,))
        pipeline = views_of(test_pipeline, factors, flips)
    data_set.pipeline = pipeline
    model = tta_model(config.get('tta_model'), detection, config.get('tta_merge'))
    config.model = ConfigDict(model, module=config.model)
    return count_views(pipeline)


def innermost(data_set: Any) -> Any:
    """Return the data set inside its wrappers."""
    while 'dataset' in data_set:
        data_set = data_set['dataset']
    return data_set


def tta_model(stated: dict[str, Any] | None, detection: bool, merge: str | None = None) -> dict[str, Any]:
    """Return the config of the merging model: a custom ``tta_model`` or, instead of the toolkits', this package's.

    Raises:
        InputError: if ``merge``, the config's ``tta_merge``, is given for a model that does not support it.
    """
    own = stated if stated and stated['type'] not in STOCK_MODELS else None
    if merge is not None and (own or not detection):
        raise InputError('tta_merge is for detectors without a custom tta_model: leave it out.')
    if own:
        return dict(own)
    if not detection:
        return dict(type='swin_backbone.SegmentationTTAModel')
    nms = ((stated or {}).get('tta_cfg') or {}).get('nms')
    options = dict(nms=nms, merge=merge)
    return dict(type='swin_backbone.InstanceTTAModel', **{name: value for name, value in options.items() if value})


def views_of(test_pipeline: Sequence[Any], factors: Sequence[float], flips: Sequence[bool]) -> list[Any]:
    """Return the test pipeline with several sizes for its resize step, followed by flips."""
    steps = copy.deepcopy(list(test_pipeline))
    resize = find_resize(steps)
    if resize is None:
        # Directly after loading, because all following steps must process the view.
        position = next((i for i, step in enumerate(steps) if not step['type'].startswith('LoadImage')), len(steps))
        sizes = [dict(type='Resize', scale_factor=float(factor), keep_ratio=True) for factor in factors]
    else:
        position = steps.index(resize)
        sizes = [resized(resize, factor) for factor in factors]
        del steps[position]
    mirrors = [dict(type='RandomFlip', prob=float(flip)) for flip in flips]
    rest = [[with_meta_keys(step)] for step in steps[position:]]
    return [*steps[:position], dict(type='TestTimeAug', transforms=[sizes, mirrors, *rest])]


def find_resize(steps: Sequence[Any]) -> Any | None:
    """Find the step that resizes images to the test size."""
    found = [step for step in steps if step['type'].rpartition('.')[2] in RESIZES]
    if len(found) > 1:
        raise InputError(
            'the test pipeline has several resize steps, so the test size is ambiguous: add a tta_pipeline with '
            'absolute sizes to the config.'
        )
    return found[0] if found else None


def resized(resize: Any, factor: float) -> Any:
    """Return a resize step with its size multiplied."""
    step = copy.deepcopy(resize)
    for key in SIZES:
        if step.get(key) is not None:
            step[key] = multiply(step[key], factor)
    return step


def multiply(size: Any, factor: float) -> Any:
    """Multiply a length in pixels, a ratio, or a pair of either; lengths stay integers."""
    if isinstance(size, (list, tuple)):
        return tuple(multiply(part, factor) for part in size)
    return int(size * factor) if isinstance(size, int) else size * factor


def with_meta_keys(step: Any) -> Any:
    """Add the keys that merging needs to the ``meta_keys`` of a packing step."""
    if 'meta_keys' in step:
        step['meta_keys'] = tuple(dict.fromkeys((*step['meta_keys'], *META_KEYS)))
    return step


def count_from_test_size(tta_pipeline: Sequence[Any], test_pipeline: Sequence[Any]) -> list[Any]:
    """Return a ``tta_pipeline`` with its scale factors applied to the test size instead of the image size."""
    pipeline = copy.deepcopy(list(tta_pipeline))
    resize = find_resize(test_pipeline)
    if resize is None:
        return pipeline
    for step in pipeline:
        for alternatives in step.get('transforms', []):
            for i, choice in enumerate(alternatives):
                if choice['type'].rpartition('.')[2] == 'Resize' and choice.get('scale_factor') is not None:
                    alternatives[i] = resized(resize, choice['scale_factor'])
    return pipeline


def count_views(pipeline: Sequence[Any]) -> int:
    """Return the number of views that a pipeline produces per image."""
    views = 1
    for step in pipeline:
        for alternatives in step.get('transforms', []) if step['type'].endswith('TestTimeAug') else []:
            views *= len(alternatives)
    return views
