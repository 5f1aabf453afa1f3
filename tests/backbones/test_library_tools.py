"""Libraries that wrap a backbone: peft, accelerate, torchao, FSDP and data parallelism."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swin_backbone import SwinTransformer
from swin_backbone.backbones.blocks import SwinBlock
from tests.backbones.small_backbone import (
    SIZES,
    assert_same_gradients,
    assert_same_maps,
    build,
    gradients_of,
    images,
    levels,
    loss_of,
)
from tests.helpers import relative_error

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::DeprecationWarning', 'ignore::FutureWarning')


@pytest.fixture(scope='module')
def one_process() -> Iterator[Any]:
    """Return the mesh of a process group of one process."""
    if not torch.distributed.is_available() or torch.distributed.is_initialized():
        pytest.skip('needs torch.distributed, not in use yet')
    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield torch.distributed.init_device_mesh('cpu', (1,))
    finally:
        torch.distributed.destroy_process_group()


def lora(version: int, folder: Path) -> None:
    """Train, save, load and merge LoRA weights of attention projections, MLPs and patch merging."""
    peft = pytest.importorskip('peft')
    config = peft.LoraConfig(r=2, target_modules=['qkv', 'proj', 'fc1', 'fc2', 'reduction'], init_lora_weights=False)
    model = peft.get_peft_model(build(version), config)
    image = next(images())
    before = [out.detach() for out in model(image)]
    loss_of(model(image)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.any())) == ('lora_' in name), name
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1).step()
    after = [out.detach() for out in model(image)]
    assert all(relative_error(a, b) > 1e-4 for a, b in zip(after, before, strict=True))
    model.save_pretrained(str(folder))
    loaded = peft.PeftModel.from_pretrained(build(version), str(folder))
    assert_same_maps(loaded, model)
    merged = loaded.merge_and_unload()
    assert set(merged.state_dict()) == set(build(version).state_dict())
    assert_same_maps(merged, model)


def cpu_offload(version: int, folder: Path) -> None:
    accelerate = pytest.importorskip('accelerate')
    model = accelerate.cpu_offload(build(version).eval(), execution_device='cpu')
    same_maps_without_gradients(model, build(version))


def device_map(version: int, folder: Path) -> None:
    """Place modules on the CPU and on disk."""
    accelerate = pytest.importorskip('accelerate')
    places = {'patch_embed': 'cpu', 'pos_drop': 'cpu', 'norm0': 'cpu', 'norm1': 'disk'}
    places |= {'layers.0': 'disk', 'layers.1': 'cpu'}
    model = accelerate.dispatch_model(
        build(version).eval(), places, main_device='cpu', offload_dir=str(folder), force_hooks=True
    )
    same_maps_without_gradients(model, build(version))


def load_and_dispatch(version: int, folder: Path) -> None:
    accelerate = pytest.importorskip('accelerate')
    torch.save(build(version).state_dict(), folder / 'weights.bin')
    with accelerate.init_empty_weights():
        model = SwinTransformer(**SIZES, version=version)
    memory = accelerate.infer_auto_device_map(model, {'cpu': '1GB'}, no_split_module_classes=['SwinBlock'])
    model = accelerate.load_checkpoint_and_dispatch(model, str(folder / 'weights.bin'), device_map=memory)
    assert_same_maps(model, build(version))


def same_maps_without_gradients(model: nn.Module, expected: nn.Module) -> None:
    expected.eval()
    with torch.no_grad():
        for image in images():
            for ours, reference in zip(model(image), expected(image), strict=True):
                assert relative_error(ours, reference) < 1e-5


def int8_weights(version: int, folder: Path) -> None:
    torchao = pytest.importorskip('torchao.quantization')
    model, plain, other = build(version).eval(), build(version).eval(), build(version).eval()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    with torch.no_grad():
        for image in images():
            for ours, reference in zip(model(image), plain(image), strict=True):
                assert relative_error(ours, reference) < 0.1
        assert type(model.layers[0].blocks[0].attn.qkv.weight) is not nn.Parameter
        other.load_state_dict(model.state_dict(), assign=True)
    same_maps_without_gradients(other, model)


def data_parallel(version: int, folder: Path) -> None:
    """Replicas have plain tensors instead of parameters."""
    replicate = importlib.import_module('torch.nn.parallel.replicate')
    with pytest.MonkeyPatch.context() as patch:  # the broadcast needs GPUs
        patch.setattr(
            replicate,
            '_broadcast_coalesced_reshape',
            lambda ts, ds, detach=False: [[t.clone() for t in ts] for _ in ds],
        )
        model = build(version)
        for replica in replicate.replicate(model, [0, 1]):
            assert_same_maps(replica, build(version))
            loss_of(replica(next(images()))).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def distributed_empty_batch(version: int, folder: Path) -> None:
    model = nn.parallel.DistributedDataParallel(build(version))
    for image in images(1):
        sum(out.sum() for out in model(image[:0])).backward()  # type: ignore[union-attr]
        assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
        assert_same_gradients(model, build(version))
        model.zero_grad()


def sharded_version_1(version: int, folder: Path, original: bool = True) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    model = FullyShardedDataParallel(
        build(version),
        auto_wrap_policy=ModuleWrapPolicy({SwinBlock}),
        use_orig_params=original,
        device_id=torch.device('cpu'),
    )
    assert_same_maps(model, build(version))
    if original:
        assert_same_gradients(model, build(version), flat=True)
    state = model.state_dict()
    fresh = SwinTransformer(**SIZES, version=version)
    fresh.load_state_dict(state)
    assert_same_maps(fresh, build(version))


def sharded_flat(version: int, folder: Path) -> None:
    sharded_version_1(version, folder, original=False)


def sharded_version_2(version: int, folder: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    model = build(version)
    mesh = torch.distributed.init_device_mesh('cpu', (1,))
    for stage in model.layers:
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert_same_maps(model, build(version))
    loss_of(model(next(images()))).backward()
    for name, grad in gradients_of(build(version), next(images())).items():
        assert relative_error(model.get_parameter(name).grad.full_tensor(), grad) < 1e-4, name


SUPPORTED: list[Callable[[int, Path], None]] = [
    lora,
    cpu_offload,
    device_map,
    load_and_dispatch,
    distributed_empty_batch,
    sharded_version_2,
]
EXPERIMENTAL: list[Callable[[int, Path], None]] = [int8_weights, data_parallel, sharded_version_1, sharded_flat]


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('tool', levels(SUPPORTED, EXPERIMENTAL))
def test_backbone_works_with_libraries(
    tool: Callable[[int, Path], None], version: int, tmp_path: Path, one_process: Any
) -> None:
    tool(version, tmp_path)
