"""Attention and MLPs in groups, as used for inference on a CPU, compared with the definition."""

import pytest
import torch
from torch import Tensor, nn

from swin_backbone.attention.kernels import cpu as grouped
from swin_backbone.attention.kernels import window_attention
from swin_backbone.attention.window_plan import WindowPlan, region_mask, window_partition, window_tokens
from tests.helpers import relative_error, tiny_backbone

HEADS, DIM = 2, 8
CHANNELS = HEADS * DIM
SIZES = [(1, 1), (3, 5), (7, 7), (8, 13), (14, 9), (6, 30), (29, 22)]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the group size, so that the small maps of the tests need several groups."""
    monkeypatch.setattr(grouped, 'ROWS_PER_THREAD', 100)
    monkeypatch.setattr(grouped, 'SMALLEST', 50)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window', [(7, 7), (3, 4), (1, 1), (1, 5)])
@pytest.mark.parametrize('shifted', [False, True])
def test_groups_equal_the_definition(size: tuple[int, int], window: tuple[int, int], shifted: bool) -> None:
    plan, tokens = WindowPlan(*size, window), window[0] * window[1]
    x = torch.randn(2, *size, CHANNELS)
    project, finish = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
    per_head = torch.tensor([3.0, 0.5]).view(2, 1, 1)
    for bias in (torch.randn(HEADS, tokens, tokens), None):
        for pad_value in (project.bias, None):
            for scale in (DIM**-0.5, per_head):
                rest = (bias, plan, shifted, HEADS, scale, pad_value)
                with torch.no_grad():
                    expected = finish(window_attention(project(x), *rest, backend='eager'))
                    actual = grouped.attend_in_groups(x, project, finish, *rest)
                assert actual.shape == expected.shape and relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('shifted', [False, True])
def test_groups_cover_every_token_once_with_the_mask_of_its_window(size: tuple[int, int], shifted: bool) -> None:
    plan, batch = WindowPlan(*size, (4, 3)), 2
    order = window_tokens(plan, shifted, batch)
    assert sorted(order[order >= 0].tolist()) == list(range(batch * size[0] * size[1]))
    masks = dict(zip(windows_of(plan, shifted, batch), region_mask(plan).repeat(batch, 1, 1), strict=True))
    parts = list(grouped.groups(plan, shifted, batch, None, like=torch.empty(0)))
    assert torch.equal(torch.cat([group.tokens for group in parts]), order.flatten())
    for group in parts:
        for window in group.tokens.view(-1, plan.tokens):
            if shifted:
                assert group.mask is not None and torch.equal(group.mask[0, 0], masks[tuple(window.tolist())])
            else:
                assert group.mask is None


def windows_of(plan: WindowPlan, shifted: bool, batch: int) -> list[tuple[int, ...]]:
    """Return the tokens of every window in the order of ``window_partition``."""
    numbers = torch.arange(batch * plan.height * plan.width).view(batch, plan.height, plan.width, 1)
    windows = window_partition(numbers, plan, shifted, pad_value=torch.tensor([-1]))
    return [tuple(window.tolist()) for window in windows.flatten(0, 1)[..., 0]]


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_backbone_maps_are_equal_with_and_without_gradients(version: int, dtype: torch.dtype) -> None:
    model = tiny_backbone(version=version).eval().to(dtype)
    image = torch.randn(2, 3, 75, 130, dtype=dtype)
    allowed = {torch.bfloat16: 0.3, torch.float16: 0.05}.get(dtype, 2e-5)
    with torch.no_grad():
        ours = model(image)
    for actual, expected in zip(ours, model(image), strict=True):
        assert actual.dtype == dtype and relative_error(actual.float(), expected.float()) < allowed


def test_attention_in_groups_supports_autocast() -> None:
    attn = tiny_backbone().eval().layers[0].blocks[1].attn
    x = torch.randn(1, 20, 20, 16)
    with torch.no_grad():
        expected = attn(x, WindowPlan(20, 20, (7, 7)), True)
        with torch.autocast('cpu', torch.bfloat16):
            actual = attn(x, WindowPlan(20, 20, (7, 7)), True)
    assert actual.dtype == torch.bfloat16 and relative_error(actual.float(), expected) < 0.1


def test_groups_require_a_large_plain_cpu_tensor_without_gradients() -> None:
    x = torch.zeros(1, 10, 11, 4)
    assert not grouped.can_run_in_groups(x)
    with torch.no_grad():
        assert grouped.can_run_in_groups(x)
        assert not grouped.can_run_in_groups(x[:, :, :5])
        assert not grouped.can_run_in_groups(x.to('meta'))
        assert not grouped.can_run_in_groups(nn.Parameter(x))
    with torch.inference_mode():
        assert grouped.can_run_in_groups(x)


def test_tokenwise_splits_large_inputs() -> None:
    seen = []

    def function(tokens: Tensor) -> Tensor:
        seen.append(tuple(tokens.shape))
        return 2 * tokens

    x = torch.randn(2, 11, 10, 3)
    with torch.no_grad():
        assert torch.equal(grouped.tokenwise(function, x), 2 * x)
    assert seen == [(100, 3), (100, 3), (20, 3)]
    assert torch.equal(grouped.tokenwise(function, x), 2 * x) and seen[-1] == (2, 11, 10, 3)
