"""The Triton kernels on a GPU: compared with eager, in compiled graphs, with autocast, checkpointing and DDP."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from swin_backbone.attention.kernels import triton_launch, window_attention
from swin_backbone.attention.window_plan import WindowPlan
from tests.attention.triton_cases import CASES, DTYPES, LIMITS, errors, inputs, run
from tests.helpers import relative_error, tiny_backbone

UNSUITABLE = triton_launch.unsupported_device_reason(torch.device('cuda'))
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(UNSUITABLE is not None, reason=str(UNSUITABLE))]


def results(model: Any, image: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return all maps and all gradients of a backbone, each as one vector."""
    with torch.autocast(image.device.type, dtype, enabled=dtype is not torch.float32):
        maps = model(image)
    sum(m.float().square().mean() for m in maps).backward()
    grads = [p.grad for p in model.parameters()]
    return [torch.cat([value.detach().float().flatten() for value in values]) for values in (maps, grads)]


def backbone(**options: Any) -> Any:
    """Create a small backbone on the GPU, with the same weights in each call."""
    torch.manual_seed(0)
    return tiny_backbone(**options).cuda()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', CASES)
def test_kernels_equal_eager(name: str, dtype: str) -> None:
    found = errors(CASES[name], DTYPES[dtype], 'cuda')
    assert max(found.values()) < LIMITS[dtype], found


@pytest.mark.parametrize('window', [(7, 7), (8, 8), (12, 12)])
@pytest.mark.parametrize('dtype', triton_launch.DTYPES)
def test_trials_pass_on_the_gpu(dtype: torch.dtype, window: tuple[int, int]) -> None:
    for dim in triton_launch.HEAD_DIMS:
        assert (
            triton_launch.failed_trial_reason(torch.device('cuda', 0), (dtype, dim, window, window == (8, 8))) is None
        )


@pytest.mark.parametrize('name', ['7x7 shifted', '8x8 cosine'])
def test_runs_are_deterministic_and_write_every_output(name: str) -> None:
    """PyTorch fills new tensors with NaN in deterministic mode, so an element that is not written is not finite."""
    case = CASES[name]
    tensors = inputs(case, torch.bfloat16, 'cuda')
    d_out = torch.randn(case.batch, case.height, case.width, case.heads * case.dim, device='cuda')
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (run(case, tensors, d_out, 'triton') for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    for key, value in first.items():
        assert value.isfinite().all() and torch.equal(value, second[key]), key


def test_unaligned_and_strided_inputs_give_equal_results() -> None:
    case = CASES['7x7 shifted']
    tensors = {name: value.detach() for name, value in inputs(case, torch.float16, 'cuda').items()}
    moved = {
        name: torch.cat([value.new_zeros(1), value.flatten()])[1:].view(value.shape) for name, value in tensors.items()
    }
    d_out = torch.randn(case.batch, case.height, case.width, 1, device='cuda')
    d_out = d_out.expand(-1, -1, -1, case.heads * case.dim)
    wanted = run(case, {k: v.requires_grad_() for k, v in tensors.items()}, d_out, 'triton')
    found = run(case, {k: v.requires_grad_() for k, v in moved.items()}, d_out, 'triton')
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('options', [{}, {'with_cp': True}])
def test_backbone_error_is_at_most_twice_that_of_sdpa(
    version: int, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    """Errors are those of maps and gradients under autocast, relative to float32."""
    image = torch.randn(2, 3, 90, 122, device='cuda')
    exact, reference, ours = (
        results(backbone(version=version, backend=backend, **options), image, precision)
        for backend, precision in (('sdpa', torch.float32), ('sdpa', dtype), ('triton', dtype))
    )
    for exact_value, ref, our in zip(exact, reference, ours, strict=True):
        assert (our - exact_value).norm() <= 2 * (ref - exact_value).norm() + 1e-3 * exact_value.norm()


@pytest.mark.slow
@pytest.mark.parametrize('version', [1, 2])
def test_compiled_backbone_equals_eager_mode(version: int) -> None:
    """Both passes are compared, for two image sizes; backend='triton' raises an error if the kernels cannot run."""
    model = backbone(version=version, backend='triton')
    compiled = torch.compile(model, fullgraph=True)
    for size in ((90, 122), (64, 70)):
        image = torch.randn(1, 3, *size, device='cuda')
        wanted = results(model, image)
        model.zero_grad(set_to_none=True)
        found = results(compiled, image)
        model.zero_grad(set_to_none=True)
        for ours, reference in zip(found, wanted, strict=True):
            assert relative_error(ours, reference) < 1e-3


@pytest.mark.parametrize('with_cp', [False, True])
def test_distributed_data_parallel_equals_a_single_process(with_cp: bool, tmp_path: Path) -> None:
    if not torch.distributed.is_nccl_available():
        pytest.skip('this PyTorch has no NCCL')
    image = torch.randn(2, 3, 90, 122, device='cuda')
    alone = results(backbone(backend='triton', with_cp=with_cp), image, torch.bfloat16)
    torch.distributed.init_process_group('nccl', f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = DistributedDataParallel(backbone(backend='triton', with_cp=with_cp), device_ids=[0])
        for found, wanted in zip(results(model, image, torch.bfloat16), alone, strict=True):
            assert relative_error(found, wanted) < 1e-3
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('shifted', [False, True])
def test_sdpa_supports_more_windows_than_a_cuda_grid_axis(shifted: bool) -> None:
    """There are 90,000 windows; PyTorch's fused attention supports 65,535 per call."""
    qkv, bias = torch.randn(1, 600, 600, 48, device='cuda').half(), torch.randn(2, 4, 4, device='cuda')
    plan = WindowPlan(600, 600, (2, 2))
    inputs = [qkv.requires_grad_(), bias.requires_grad_()]
    found = []
    for backend in ('sdpa', 'eager'):
        out = window_attention(qkv, bias, plan, shifted, 2, 0.3, backend=backend)
        found.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    for ours, reference in zip(*found, strict=True):
        assert (ours - reference).float().norm() < 1e-2 * reference.float().norm()
