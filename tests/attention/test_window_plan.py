"""Windows, shift and mask compared with brute force; the cache of constants."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from swin_backbone.attention import window_plan
from swin_backbone.attention.position_encoding import log_spaced_offsets, relative_position_index
from swin_backbone.attention.window_plan import (
    MASKED_LOGIT,
    PadShiftPlan,
    TensorCache,
    WindowPlan,
    frame_mask,
    region_mask,
    window_partition,
    window_reverse,
)

WINDOWS = [(1, 1), (2, 2), (3, 3), (7, 7), (2, 5), (4, 3)]


def every_size(window: tuple[int, int]) -> list[tuple[int, int]]:
    return [(h, w) for h in range(1, 2 * window[0] + 1) for w in range(1, 2 * window[1] + 1)]


@pytest.mark.parametrize('window', WINDOWS)
@pytest.mark.parametrize('shifted', [False, True])
def test_window_reverse_inverts_partition_for_every_size_up_to_two_windows(
    window: tuple[int, int], shifted: bool
) -> None:
    for height, width in every_size(window):
        plan = WindowPlan(height, width, window)
        x = torch.randn(2, height, width, 3)
        windows = window_partition(x, plan, shifted, pad_value=torch.randn(3))
        assert windows.shape == (2, plan.num_windows, plan.tokens, 3)
        assert torch.equal(window_reverse(windows, plan, shifted), x)


def brute_force_windows(height: int, width: int, window: tuple[int, int], shifted: bool) -> torch.Tensor:
    """Return the token (-1: padding) at every position of every window, computed position by position."""
    plan = WindowPlan(height, width, window)
    padded_h, padded_w = plan.cut_size
    shift = plan.shift if shifted else (0, 0)
    out = torch.empty(plan.num_windows, plan.tokens, dtype=torch.long)
    for row in range(padded_h):
        for col in range(padded_w):
            source_row, source_col = (row + shift[0]) % padded_h, (col + shift[1]) % padded_w
            inside = source_row < height and source_col < width
            number = (row // window[0]) * plan.window_grid[1] + col // window[1]
            token = (row % window[0]) * window[1] + col % window[1]
            out[number, token] = source_row * width + source_col if inside else -1
    return out


@pytest.mark.parametrize('window', [(2, 2), (3, 3), (2, 5)])
@pytest.mark.parametrize('shifted', [False, True])
def test_window_partition_equals_brute_force(window: tuple[int, int], shifted: bool) -> None:
    for height, width in every_size(window):
        tokens = torch.arange(height * width, dtype=torch.float32).view(1, height, width, 1)
        windows = window_partition(tokens, WindowPlan(height, width, window), shifted, pad_value=torch.tensor([-1.0]))
        assert torch.equal(windows[0, :, :, 0].long(), brute_force_windows(height, width, window, shifted))


def brute_force_mask(plan: WindowPlan) -> torch.Tensor:
    """Return the mask computed pair by pair: tokens of a window attend to each other if both or neither are wrapped
    around by the roll, along each axis."""
    padded_h, padded_w = plan.cut_size
    mask = torch.zeros(plan.num_windows, plan.tokens, plan.tokens)
    for number in range(plan.num_windows):
        top, left = (number // plan.window_grid[1]) * plan.window[0], (number % plan.window_grid[1]) * plan.window[1]
        for i in range(plan.tokens):
            for j in range(plan.tokens):
                wrapped_i = (
                    top + i // plan.window[1] + plan.shift[0] >= padded_h,
                    left + i % plan.window[1] + plan.shift[1] >= padded_w,
                )
                wrapped_j = (
                    top + j // plan.window[1] + plan.shift[0] >= padded_h,
                    left + j % plan.window[1] + plan.shift[1] >= padded_w,
                )
                if wrapped_i != wrapped_j:
                    mask[number, i, j] = MASKED_LOGIT
    return mask


@pytest.mark.parametrize('window', WINDOWS)
def test_region_mask_equals_brute_force(window: tuple[int, int]) -> None:
    sizes = every_size(window) if window != (7, 7) else [(1, 1), (7, 7), (8, 13), (14, 3)]
    for height, width in sizes:
        plan = WindowPlan(height, width, window)
        assert torch.equal(region_mask(plan), brute_force_mask(plan))


def test_mask_is_built_once_per_size_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(window_plan, 'CONSTANTS', TensorCache(2**20))
    monkeypatch.setattr(window_plan, 'region_mask', lambda plan: calls.append(plan) or region_mask(plan))
    for dtype in (torch.float32, torch.bfloat16):
        like = torch.empty(1, dtype=dtype)
        WindowPlan(10, 9, (7, 7)).mask(like)
        WindowPlan(10, 9, (7, 7)).mask(like)
    assert len(calls) == 1


def test_cache_size_stays_within_max_bytes() -> None:
    cache = TensorCache(max_bytes=4000)
    like = torch.empty(0)
    for size in range(100, 200):
        cache.get(like, torch.zeros, size)
        assert cache.cached_bytes <= 4000
    assert len(cache) > 1


def test_constants_cached_in_inference_mode_can_be_used_in_training() -> None:
    cache = TensorCache(2**20)
    with torch.inference_mode():
        cache.get(torch.empty(1), torch.ones, 3)
    weight = torch.ones(3, requires_grad=True)
    (weight * cache.get(torch.empty(1), torch.ones, 3)).sum().backward()
    assert weight.grad is not None


def test_cache_neither_stores_nor_returns_fake_tensors() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    cache = TensorCache(2**20)
    with FakeTensorMode():
        cache.get(torch.empty(1), torch.ones, 3)
    assert len(cache) == 0
    assert type(cache.get(torch.empty(1), torch.ones, 3)) is torch.Tensor


class HostTensors(TorchDispatchMode):
    """Collect the operations that return a tensor on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(x, Tensor) and x.device.type == 'cpu' for x in tree_leaves(out)):
            self.found.append(str(func))
        return out


@pytest.mark.parametrize('plan', [WindowPlan(9, 12, (4, 4)), PadShiftPlan(9, 12, (4, 4))])
def test_masks_and_indices_are_built_on_the_device(plan: WindowPlan) -> None:
    """A copy from the host would make a GPU wait at every new image size; 'meta' stands for a device here."""
    cache = TensorCache(2**20)
    like = torch.empty(1, device='meta')
    with HostTensors() as seen:
        built = [
            cache.get(like, frame_mask if isinstance(plan, PadShiftPlan) else region_mask, plan),
            cache.get(like, relative_position_index, plan.window),
            cache.get(like, log_spaced_offsets, plan.window, (0, 0)),
        ]
    assert not seen.found
    assert {tensor.device.type for tensor in built} == {'meta'}
