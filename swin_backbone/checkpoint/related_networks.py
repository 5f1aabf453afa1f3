"""Recognise networks that are related to Swin Transformer but whose weights cannot be loaded."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from swin_backbone.errors import InputError

ADVICE = 'Load it with its own code, or use weights of a Swin Transformer, V1 or V2.'


def any_name(pattern: str, state: Mapping[str, Tensor]) -> bool:
    """Whether any name matches ``pattern``."""
    return any(re.search(pattern, name) for name in state)


def is_mixture(state: Mapping[str, Tensor]) -> bool:
    """Whether there are experts, or V2's MLP for position biases together with V1's attention and its QKV bias."""
    v2, v1 = any_name(r'blocks\.\d+\.attn\.cpb_mlp\.', state), any_name(r'blocks\.\d+\.attn\.qkv\.bias$', state)
    return any_name(r'\.mlp\._moe_layer\.', state) or (v2 and v1 and not any_name(r'\.logit_scale$', state))


RELATED_NETWORKS: dict[str, Callable[[Mapping[str, Tensor]], bool]] = {
    'a Swin-UNETR (MONAI), whose windows, patches and merging layers are three-dimensional': partial(
        any_name, r'(^|\.)layers[1-4]c?\.0\.(0\.)?blocks\.\d+\.'
    ),
    'a SwinIR for image restoration, which has one resolution and no feature pyramid': partial(
        any_name, r'(^|\.)layers\.\d+\.residual_group\.blocks\.'
    ),
    'a Swin-MoE, which has experts instead of MLPs and attention that differs from V1 and V2': is_mixture,
}


def refuse_related_networks(state: Mapping[str, Tensor], source: str) -> None:
    """Raise an error if ``state`` belongs to one of these networks.

    Raises:
        InputError: if it does; the message names the network and what to do.
    """
    for name, is_one in RELATED_NETWORKS.items():
        if is_one(state):
            raise InputError(f'{source} contains {name}: this backbone cannot use its weights. {ADVICE}')
