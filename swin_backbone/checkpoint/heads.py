"""The names of necks and heads in files of whole models, and what of such a file a model has no place for.

MMDetection 2 and MMSegmentation 0.x, with which the original detectors and segmenters were trained, name necks and
heads as their versions 3 and 1 do, so those files need no translation here; their backbones are translated where they
are loaded. UPerNet of Transformers has other names, and MMDetection 1 another order of classes.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from swin_backbone.errors import InputError

UPERNET = 'decode_head.classifier.weight'
"""By this key UPerNet of Transformers is recognised."""

UPERNET_NAMES = (
    (re.compile(r'^(decode_head|auxiliary_head)\.classifier\.'), r'\1.conv_seg.'),
    (re.compile(r'^((?:decode_head|auxiliary_head)\..+)\.batch_norm\.'), r'\1.bn.'),
)
"""Patterns of its names, and what MMSegmentation has in their place."""

CLASSIFIER = ('head.weight', 'head.bias')
"""The last layer of a classifier under native names, ``[classes, channels]`` and ``[classes]``."""

MMDET_1 = re.compile(r'(bbox_head|mask_head)\.(\d+\.)?(fc_cls|fc_reg|conv_logits)\.(weight|bias)')
"""Keys of detectors with regions before MMDetection 2, which keeps these heads under ``roi_head``."""


def translate_heads(state: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Give the necks and heads of a whole model today's names; names of backbones stay.

    Args:
        state: a state dict, whose keys have no prefix around the whole model.
        source: how to call it in errors.

    Raises:
        InputError: the heads cannot be translated.
    """
    if any(MMDET_1.fullmatch(name) for name in state):
        raise InputError(
            f'{source} was written by MMDetection 1, which counts the background as the first class and measures boxes '
            'differently: convert it with tools/model_converters/upgrade_model_version.py of MMDetection 2.'
        )
    if UPERNET not in state:
        return dict(state)
    return {rename(name): value for name, value in state.items()}


def rename(name: str) -> str:
    """The name in MMSegmentation of a weight of UPerNet of Transformers."""
    for pattern, replacement in UPERNET_NAMES:
        name = pattern.sub(replacement, name)
    return name


def unused_weights(names: Iterable[str], model: nn.Module) -> tuple[list[str], list[str]]:
    """Classify the keys that loading into ``model`` did not use.

    Args:
        names: of weights in a file for which the model has no parameter.
        model: a detector or segmenter.

    Returns:
        The parts, such as a mask head, that the model does not have at all, and the weights that belong to a part that
        it has, which is then another one than in the file. Buffers that a model computes itself are neither.
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
    """The part of a detector or segmenter that a weight belongs to: one below ``roi_head``, or else one at the top."""
    pieces = name.split('.')
    return '.'.join(pieces[: 2 if pieces[0] == 'roi_head' else 1])


def classifier_head(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """``weight`` and ``bias`` of the last layer of a classifier.

    Args:
        state: what :func:`.convert.find_backbone` finds, under native names.
        source: how to call it in errors.

    Raises:
        InputError: there is none, or one of another kind.
    """
    head = {name.removeprefix('head.'): state[name] for name in CLASSIFIER if name in state}
    if len(head) < len(CLASSIFIER):
        raise InputError(
            f'{source} holds a Swin backbone without the last layer of a classifier, which would be called head, '
            'head.fc or classifier: give the file of a classifier.'
        )
    if head['weight'].dim() != 2 or head['bias'].shape != head['weight'].shape[:1] or not len(head['bias']):
        shapes = ' and '.join(str(tuple(value.shape)) for value in head.values())
        raise InputError(f'{source} has a last layer of shapes {shapes}: expected [classes, channels] and [classes].')
    return head
