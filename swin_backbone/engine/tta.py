"""Multi-scale testing of any config: ``--tta``.

A view is the image at a multiple of the config's test size, as it is or mirrored. The papers state the multiples for
segmentation; for detection they do not. A config that wants others than the default lists them as ``tta_factors``, or
has a whole ``tta_pipeline``. Multiples (``scale_factor``) in the latter count from the config's test size too, not from
the size of each image as MMSegmentation 1.x takes them: the papers scaled the test size, and only so is the view of
factor 1 the plain test. ``tta_flip = False`` leaves the mirrored views out. ``tta_merge = 'proposals'`` merges the
views of a two-stage detector as the original code does.
"""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from swin_backbone.errors import InputError

SEGMENTATION_FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""What the papers test UPerNet with, each also mirrored (Swin paper, appendix A2.3)."""

DETECTION_FACTORS = (0.75, 1.0, 1.25, 1.5)
"""Short sides of 600 to 1200 pixels for a test size of 800; the papers give no list for detection."""

STOCK_MODELS = {'DetTTAModel', 'SegTTAModel'}
RESIZES = {'Resize', 'FixScaleResize', 'ResizeShortestEdge'}
SIZES = ('scale', 'scale_factor', 'max_size')
META_KEYS = ('img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')


def use_tta(config: Config, factors: Sequence[float] | None = None, flips: Sequence[bool] | None = None) -> int:
    """Let a config test every image in several views and merge them.

    Args:
        config: of a detector or segmenter; changed in place.
        factors: multiples of the test size, in place of the config's ``tta_factors``, ``tta_pipeline`` or the default.
        flips: whether each multiple is seen as it is, mirrored, or both, in place of the config's ``tta_flip``; a
            ``tta_pipeline`` says so itself.

    Returns:
        The number of views.

    Raises:
        InputError: the test pipeline has a form that views cannot be made from.
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
    """The data set inside its wrappers."""
    while 'dataset' in data_set:
        data_set = data_set['dataset']
    return data_set


def tta_model(stated: dict[str, Any] | None, detection: bool, merge: str | None = None) -> dict[str, Any]:
    """The config of the model that merges: the config's own, except that the toolkits' give way to ours.

    Raises:
        InputError: ``merge``, the config's ``tta_merge``, is given for another model than ``InstanceTTAModel``.
    """
    own = stated if stated and stated['type'] not in STOCK_MODELS else None
    if merge is not None and (own or not detection):
        raise InputError('tta_merge is for detectors without a tta_model of their own: leave it out.')
    if own:
        return dict(own)
    if not detection:
        return dict(type='swin_backbone.SegmentationTTAModel')
    nms = ((stated or {}).get('tta_cfg') or {}).get('nms')
    options = dict(nms=nms, merge=merge)
    return dict(type='swin_backbone.InstanceTTAModel', **{name: value for name, value in options.items() if value})


def views_of(test_pipeline: Sequence[Any], factors: Sequence[float], flips: Sequence[bool]) -> list[Any]:
    """The test pipeline with its resize in several sizes, and mirroring after it."""
    steps = copy.deepcopy(list(test_pipeline))
    resize = find_resize(steps)
    if resize is None:
        # Right after the image is read: what follows must see the view.
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
    """The step that brings images to the test size."""
    found = [step for step in steps if step['type'].rpartition('.')[2] in RESIZES]
    if len(found) > 1:
        raise InputError(
            'the test pipeline resizes more than once, so its test size is unclear: give the config a tta_pipeline '
            'with absolute sizes.'
        )
    return found[0] if found else None


def resized(resize: Any, factor: float) -> Any:
    """The same step at a multiple of its size."""
    step = copy.deepcopy(resize)
    for key in SIZES:
        if step.get(key) is not None:
            step[key] = multiply(step[key], factor)
    return step


def multiply(size: Any, factor: float) -> Any:
    """A length in pixels, a ratio, or a pair of either, times a factor; pixels stay whole numbers."""
    if isinstance(size, (list, tuple)):
        return tuple(multiply(part, factor) for part in size)
    return int(size * factor) if isinstance(size, int) else size * factor


def with_meta_keys(step: Any) -> Any:
    """A step that packs also passes on what merging needs."""
    if 'meta_keys' in step:
        step['meta_keys'] = tuple(dict.fromkeys((*step['meta_keys'], *META_KEYS)))
    return step


def count_from_test_size(tta_pipeline: Sequence[Any], test_pipeline: Sequence[Any]) -> list[Any]:
    """A config's ``tta_pipeline`` with multiples of the image's size taken as multiples of the test size."""
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
    """How many views a pipeline makes of an image."""
    views = 1
    for step in pipeline:
        for alternatives in step.get('transforms', []) if step['type'].endswith('TestTimeAug') else []:
            views *= len(alternatives)
    return views
