"""Properties of the whole backbone for sizes and windows drawn by hypothesis."""

from itertools import product

import pytest
import torch

from tests.helpers import tiny_backbone

pytest.importorskip('hypothesis', reason='hypothesis is not installed')
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

WINDOWS = st.tuples(st.integers(1, 6), st.integers(1, 6))
PATCH = 4


def examples(count: int) -> settings:
    """Return settings with the same examples in every run, without shrinking, which takes minutes."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        # The fixture that seeds every test runs once for all examples, but these set or draw their own seeds.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize(
    ('method', 'version'),
    [*product(('shifted-cyclic', 'shifted-padding', 'sliding-kernel'), (1, 2)), ('performer', 1)],
)
@given(
    size=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    window=WINDOWS,
    batch=st.integers(2, 3),
    gradients=st.booleans(),
)
@examples(5)
def test_images_of_a_batch_are_independent(
    method: str, version: int, size: tuple[int, int], window: tuple[int, int], batch: int, gradients: bool
) -> None:
    torch.manual_seed(0)
    model = tiny_backbone(version=version, window_size=window, attention_method=method).double().eval()
    images = torch.randn(batch, 3, *size, dtype=torch.float64)
    with torch.set_grad_enabled(gradients):  # without gradients, large maps are computed in groups of windows
        together, alone = model(images), [model(image[None]) for image in images]
    for level, maps in enumerate(together):
        assert torch.allclose(maps, torch.cat([single[level] for single in alone]), rtol=0, atol=1e-11)


@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('version', [1, 2])
@given(
    window=WINDOWS,
    grid=st.tuples(st.integers(4, 6), st.integers(4, 6)),
    move=st.sampled_from(((0, 1), (1, 0), (1, 1))),
    stages=st.integers(1, 2),
)
@examples(10)
def test_maps_are_equivariant_to_translation_by_whole_windows(
    shift: bool,
    version: int,
    window: tuple[int, int],
    grid: tuple[int, int],
    move: tuple[int, int],
    stages: int,
) -> None:
    """Without shifted windows this holds everywhere; with them, in a single stage away from the borders."""
    stages = 1 if shift else stages
    sizes = dict(depths=(2,) * stages, num_heads=(2, 2)[:stages], out_indices=(stages - 1,))
    torch.manual_seed(0)
    model = tiny_backbone(version=version, window_size=window, shift=shift, **sizes).double().eval()
    stride = PATCH * 2 ** (stages - 1)
    (height, width), (down, right) = ([n * w for n, w in zip(counts, window, strict=True)] for counts in (grid, move))
    canvas = torch.randn(1, 3, (height + down) * stride, (width + right) * stride, dtype=torch.float64)
    with torch.no_grad():
        here = model(canvas[..., : height * stride, : width * stride])[0]
        there = model(canvas[..., down * stride :, right * stride :])[0]
    rows, cols = window if shift else (0, 0)
    here = here[..., down + rows : height - rows, right + cols : width - cols]
    there = there[..., rows : height - down - rows, cols : width - right - cols]
    assert here.numel() and torch.allclose(here, there, rtol=0, atol=1e-11)
