"""Names of necks and heads in checkpoints of whole models, and weights that a model does not use.

MMDetection 2 and MMSegmentation 0.x, with which the original detectors and segmenters were trained, use the same names
of necks and heads as MMDetection 3 and MMSegmentation 1, so those files are not translated here; backbones are
translated when they are loaded. UPerNet of Transformers has other names, and MMDetection 1 another order of classes.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from swin_backbone.errors import InputError

UPERNET = 'decode_head.classifier.weight'
"""The key by which UPerNet of Transformers is recognised."""

UPERNET_NAMES = (
    (re.compile(r'^(decode_head|auxiliary_head)\.classifier\.'), r'\1.conv_seg.'),
    (re.compile(r'^((?:decode_head|auxiliary_head)\..+)\.batch_norm\.'), r'\1.bn.'),
)
"""Patterns of its names, and the names in MMSegmentation."""

CLASSIFIER = ('head.weight', 'head.bias')
"""The last layer of a classifier under native names, ``[classes, channels]`` and ``[classes]``."""

MMDET_1 = re.compile(r'(bbox_head|mask_head)\.(\d+\.)?(fc_cls|fc_reg|conv_logits)\.(weight|bias)')
"""Keys of two-stage detectors of MMDetection 1; MMDetection 2 has these heads under ``roi_head``."""


def translate_heads(state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Rename the necks and heads of a whole model to their current names; names of backbones are unchanged.

    Args:
        state: a state dict whose keys have no prefix for the whole model.
        source: name of the checkpoint in error messages.

    Raises:
        InputError: if the heads cannot be translated.
    """
    if any(MMDET_1.fullmatch(name) for name in state):
        raise InputError(
            f'{source} was written by MMDetection 1, which has the background as its first class and encodes boxes '
            'differently: convert it with tools/model_converters/upgrade_model_version.py of MMDetection 2.'
        )
    if UPERNET not in state:
        return dict(state)
    return {rename(name): value for name, value in state.items()}


def rename(name: str) -> str:
    """Translate the name of a weight of Transformers' UPerNet to MMSegmentation's."""
    for pattern, replacement in UPERNET_NAMES:
        name = pattern.sub(replacement, name)
    return name


def unused_weights(names: Iterable[str], model: nn.Module) -> tuple[list[str], list[str]]:
    """Classify the keys that loading into ``model`` did not use.

    Args:
        names: names of weights in a file for which the model has no parameter.
        model: a detector or segmenter.

    Returns:
        The parts, such as a mask head, that the model does not have at all, and the names of weights in parts that it
        does have, which then differ from those in the file. Buffers that the model computes are in neither list.
    """
    modules, buffers = dict(model.named_modules()), dict(model.named_buffers())
    parts: list[str] = []
    strays: list[str] = []
    for name in names:
        part = part_of(name)
        if name in buffers or part in parts:
            continue
        (strays if part in modules else parts).append(name if part in modules else part)
    return parts, strays


def part_of(name: str) -> str:
    """Return the part of a model that a weight belongs to: a child of ``roi_head``, or else a child of the model."""
    pieces = name.split('.')
    return '.'.join(pieces[: 2 if pieces[0] == 'roi_head' else 1])


def classifier_head(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return ``weight`` and ``bias`` of the last layer of a classifier.

    Args:
        state: the weights found by :func:`.convert.find_backbone`, under native names.
        source: name of the checkpoint in error messages.

    Raises:
        InputError: if there is no such layer, or its shapes are unexpected.
    """
    head = {name.removeprefix('head.'): state[name] for name in CLASSIFIER if name in state}
    if len(head) < len(CLASSIFIER):
        raise InputError(
            f'{source} contains a Swin backbone without the last layer of a classifier, which would be named head, '
            'head.fc or classifier: use the checkpoint of a classifier.'
        )
    if head['weight'].dim() != 2 or head['bias'].shape != head['weight'].shape[:1] or not len(head['bias']):
        shapes = ' and '.join(str(tuple(value.shape)) for value in head.values())
        raise InputError(f'{source} has a last layer of shapes {shapes}: expected [classes, channels] and [classes].')
    return head
