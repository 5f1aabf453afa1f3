"""Layer-wise learning-rate decay, and freezing with DistributedDataParallel."""

from pathlib import Path

import pytest
import torch
from torch import nn

from swin_backbone.errors import InputError
from tests.helpers import TINY, tiny_backbone


class Detector(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.backbone = tiny_backbone(**options)
        self.head = nn.Linear(4, 4)


def build(model: nn.Module, **paramwise: object) -> dict[str, dict]:
    from mmengine.optim import build_optim_wrapper

    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        constructor='swin_backbone.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=paramwise,
    )
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {id(group['params'][0]): group for group in build_optim_wrapper(model, cfg).param_groups}
    return {name: groups[key] for key, name in names.items()}  # mmengine adds another group


def test_learning_rates_decay_towards_the_input() -> None:
    groups = build(Detector(), decay_rate=0.5, custom_keys={'norm': dict(decay_mult=0.0)})
    depths = sum(TINY['depths']) + 2
    expected = {
        'backbone.patch_embed.proj.weight': 0,
        'backbone.layers.0.blocks.0.attn.qkv.weight': 1,
        'backbone.layers.0.blocks.1.norm1.weight': 2,
        'backbone.layers.0.downsample.reduction.weight': 2,
        'backbone.layers.3.blocks.1.mlp.fc2.bias': 8,
        'backbone.norm0.weight': 9,
        'head.weight': 9,
    }
    for name, depth in expected.items():
        assert groups[name]['lr'] == pytest.approx(1e-3 * 0.5 ** (depths - 1 - depth)), name
    assert groups['backbone.layers.0.blocks.1.norm1.weight']['weight_decay'] == 0.0
    assert groups['head.weight']['weight_decay'] == 0.05


def test_layer_depths_count_only_built_stages() -> None:
    model = tiny_backbone(out_indices=(0, 1))
    assert model.get_layer_depth('norm1.weight') == (5, 6)
    assert model.get_layer_depth('layers.1.blocks.1.mlp.fc1.weight') == (4, 6)


@pytest.mark.parametrize('rate', [None, 0.0, 1.5])
def test_invalid_decay_rate_raises_input_error(rate: float | None) -> None:
    with pytest.raises(InputError, match='decay_rate must be'):
        build(Detector(), decay_rate=rate)


def test_backbone_without_layer_depths_raises_input_error() -> None:
    model = Detector()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(InputError, match='get_layer_depth'):
        build(model, decay_rate=0.9)


def train_a_step(rank: int, meeting: str, frozen: int) -> None:
    """Train in one of two processes; DDP raises an error if a parameter gets no gradient."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'file://{meeting}', rank=rank, world_size=2)
    torch.manual_seed(0)
    model = tiny_backbone(frozen_stages=frozen, position_encoding='absolute+relative', with_cp=True, out_indices=(1, 2))
    wrapped = nn.parallel.DistributedDataParallel(model.train())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    before = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(rank)
    for _ in range(2):  # DDP reports unused parameters of the first step in the second
        optimizer.zero_grad()
        sum(out.square().mean() for out in wrapped(torch.randn(1, 3, 40, 56))).backward()
        optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == (not p.requires_grad), name
        both = [torch.empty_like(p) for _ in range(2)]
        torch.distributed.all_gather(both, p.detach())
        assert torch.equal(*both), name
    # A process that exits while the other still communicates would abort it.
    torch.distributed.barrier()
    del wrapped
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('frozen', [-1, 2])
def test_frozen_stages_have_no_unused_parameters_with_ddp(frozen: int, tmp_path: Path) -> None:
    # A file instead of a port, because a port that is free now may be in use a moment later.
    torch.multiprocessing.spawn(train_a_step, (str(tmp_path / 'meeting'), frozen), nprocs=2)
