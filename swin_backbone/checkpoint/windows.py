"""Tell from V2's buffers for which windows its position bias was trained, and whether a model follows them."""

import math

from torch import Tensor, nn

from swin_backbone.checkpoint.names import NATIVE_BLOCK, fill, parse
from swin_backbone.checkpoint.regroup import State
from swin_backbone.position import CPB_RANGE


def trained_window(coords: Tensor) -> int:
    """The window whose largest offset V2's ``relative_coords_table`` ``[1, 2Mh-1, 2Mw-1, 2]`` was divided by."""
    largest = coords[..., 0].max().item()
    scaled = 2.0 ** (largest * math.log2(CPB_RANGE)) - 1.0
    offset = (coords.shape[1] - 1) // 2
    return round(offset * CPB_RANGE / scaled) + 1 if scaled > 0 else 1


def window_warnings(state: State, model: nn.Module) -> list[str]:
    """A warning if the file's position bias was trained for other windows than ``model`` assumes; V2 only.

    Files of some libraries do not tell, and then there is none.
    """
    theirs: list[int] = []
    ours: list[int] = []
    for name, coords in state.items():
        parsed = parse(NATIVE_BLOCK, name)
        if parsed is None or parsed[1:] != (0, 'attn.relative_coords_table'):
            continue
        try:
            attention = model.get_submodule(fill(NATIVE_BLOCK, parsed[0]) + 'attn')
        except AttributeError:
            continue
        window, pretrained = getattr(attention, 'window', None), getattr(attention, 'pretrained_window', None)
        if window is None or pretrained is None:
            continue
        theirs.append(trained_window(coords))
        ours.append(pretrained[0] or window[0])
    if theirs == ours:
        return []
    return [
        f'its position bias was trained for windows of {theirs}, this backbone takes it as one of {ours}: '
        f'pretrained_window_sizes={theirs} would keep what was learned'
    ]
