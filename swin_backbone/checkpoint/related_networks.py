"""Networks that are related to Swin Transformer and do not fit it: what to call them, and what to do."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from swin_backbone.errors import InputError

ADVICE = 'Load it with the code that it comes from, or give weights of a Swin Transformer, V1 or V2.'


def any_name(pattern: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a name contains ``pattern``."""
    return any(re.search(pattern, name) for name in state)


def is_mixture(state: Mapping[str, Tensor]) -> bool:
    """Whether there are experts, or V2's network of position biases beside V1's dot products and their bias."""
    v2, v1 = any_name(r'blocks\.\d+\.attn\.cpb_mlp\.', state), any_name(r'blocks\.\d+\.attn\.qkv\.bias$', state)
    return any_name(r'\.mlp\._moe_layer\.', state) or (v2 and v1 and not any_name(r'\.logit_scale$', state))


RELATED_NETWORKS: dict[str, Callable[[Mapping[str, Tensor]], bool]] = {
    'a Swin-UNETR (MONAI), whose windows, patches and merging layers are those of volumes': partial(
        any_name, r'(^|\.)layers[1-4]c?\.0\.(0\.)?blocks\.\d+\.'
    ),
    'a SwinIR for image restoration, which keeps one resolution and has no pyramid of maps': partial(
        any_name, r'(^|\.)layers\.\d+\.residual_group\.blocks\.'
    ),
    'a Swin-MoE, whose MLPs are experts and whose attention is neither that of V1 nor that of V2': is_mixture,
}


def refuse_related_networks(state: Mapping[str, Tensor], source: str) -> None:
    """Raise an error if ``state`` belongs to one of these networks.

    Raises:
        InputError: it does; the message names the network and what to do.
    """
    for name, is_one in RELATED_NETWORKS.items():
        if is_one(state):
            raise InputError(f'{source} holds {name}: this backbone cannot use its weights. {ADVICE}')
