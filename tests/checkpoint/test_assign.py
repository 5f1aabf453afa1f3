"""Loading into parameters on 'meta', sharded parameters and wrapped modules."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from swin_backbone import SwinTransformer, load_pretrained
from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.errors import InputError
from tests.checkpoint.layouts import Sizes, layout_state
from tests.helpers import TINY, randomize, tiny_backbone

SMALL = Sizes(16, (2, 2, 2, 2), (1, 2, 4, 8), window=4, tokens=64)


def on_meta(**options: Any) -> SwinTransformer:
    with torch.device('meta'):
        return SwinTransformer(**TINY, **options)


def same_maps(ours: nn.Module, reference: nn.Module) -> bool:
    image = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        return all(torch.equal(a, b) for a, b in zip(ours.eval()(image), reference.eval()(image), strict=True))


def test_a_backbone_on_meta_gets_new_parameters() -> None:
    source, model = tiny_backbone(), on_meta(frozen_stages=1)
    state = {name: value.double() for name, value in source.state_dict().items()}
    assert load_pretrained(model, state).complete
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert same_maps(model, source)
    assert not model.patch_embed.proj.weight.requires_grad and model.norm3.weight.requires_grad
    assert model.patch_embed.proj.weight.dtype == torch.float32


def test_new_weights_do_not_share_memory_with_the_source() -> None:
    state = tiny_backbone().state_dict()
    model = on_meta()
    load_pretrained(model, state)
    state['norm0.weight'].zero_()
    assert model.norm0.weight.all()


def test_parameters_on_meta_that_are_not_in_the_file_get_initial_values() -> None:
    options: dict[str, Any] = dict(window_size=4, position_encoding='absolute+relative', pretrain_img_size=32)
    state = layout_state('original', SMALL, 1)
    model, filled = on_meta(**options), SwinTransformer(**TINY, **options)
    assert load_pretrained(model, state).new == load_pretrained(filled, state).new
    assert torch.equal(model.norm2.weight, torch.ones(64)) and torch.equal(model.norm2.bias, torch.zeros(64))
    assert 0.01 < model.absolute_pos_embed.std() < 0.03
    with torch.no_grad():
        filled.absolute_pos_embed.copy_(model.absolute_pos_embed)
    assert same_maps(model, filled)


def test_a_state_dict_on_meta_is_checked_but_not_loaded() -> None:
    model = on_meta()
    assert load_pretrained(model, dict(on_meta().state_dict())).complete
    assert all(parameter.is_meta for parameter in model.parameters())
    with pytest.raises(InputError, match='cannot be copied into this backbone'):
        load_pretrained(tiny_backbone(), dict(on_meta().state_dict()))


def test_tensors_that_would_remain_on_meta_are_an_error() -> None:
    state = tiny_backbone().state_dict()
    del state['layers.1.blocks.0.mlp.fc1.bias']
    model = on_meta()
    with pytest.raises(InputError, match=r"1 tensors .* such as layers\.1\.blocks\.0\.mlp\.fc1\.bias, .* 'meta'"):
        load_pretrained(model, state, strict=False)
    assert all(parameter.is_meta for parameter in model.parameters())
    performer = dict(attention_method='performer')
    with pytest.raises(InputError, match=r'such as layers\.0\.blocks\.0\.attn\.features'):
        load_pretrained(on_meta(**performer), tiny_backbone(**performer).state_dict())


@pytest.mark.parametrize(
    'broken', [torch.ones(16).to_sparse(), torch.quantize_per_tensor(torch.ones(16), 1, 0, torch.qint8)]
)
def test_values_that_cannot_be_copied_leave_the_model_unchanged(broken: Tensor) -> None:
    model = tiny_backbone()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = {**tiny_backbone().state_dict(), 'norm0.bias': broken}
    with pytest.raises(InputError, match=r'norm0\.bias cannot be copied .* nothing was loaded'):
        load_pretrained(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_inconsistent_weight_shapes_are_reported() -> None:
    state = layout_state('transformers', SMALL, 1)
    state['swin.encoder.layers.0.blocks.0.attention.self.key.weight'] = torch.ones(16, 4)
    with pytest.raises(InputError, match='with inconsistent weight shapes'):
        load_pretrained(tiny_backbone(window_size=4), state)


def wrap_blocks(model: SwinTransformer) -> SwinTransformer:
    """Wrap every block for PyTorch's activation checkpointing."""
    for stage in model.layers:
        for number, block in enumerate(stage.blocks):  # type: ignore[arg-type,union-attr]
            stage.blocks[number] = checkpoint_wrapper(block)  # type: ignore[index,operator,union-attr]
    return model


def compile_blocks(model: SwinTransformer) -> SwinTransformer:
    """Wrap every block with ``torch.compile``."""
    for stage in model.layers:
        for number, block in enumerate(stage.blocks):  # type: ignore[arg-type,union-attr]
            stage.blocks[number] = torch.compile(block, backend='eager')  # type: ignore[index,operator,union-attr]
    return model


@pytest.mark.parametrize('wrap', [wrap_blocks, compile_blocks])
@pytest.mark.parametrize('layout', ['original', 'mm'])
def test_wrapped_blocks_get_the_same_weights_as_plain_blocks(wrap: Any, layout: str) -> None:
    state = layout_state(layout, SMALL, 1)
    plain = SwinTransformer(**TINY, window_size=6)
    load_pretrained(plain, state)
    direct, hooked = (wrap(SwinTransformer(**TINY, window_size=6)) for _ in range(2))
    assert len(load_pretrained(direct, state).adapted) == 8
    hooked.load_state_dict(dict(state))
    for ours, also, reference in zip(direct.parameters(), hooked.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, reference) and torch.equal(also, reference)


@pytest.mark.parametrize('wrap', [wrap_blocks, compile_blocks])
def test_a_compiled_backbone_is_loaded_and_saved(wrap: Any) -> None:
    source = tiny_backbone()
    model = torch.compile(wrap(SwinTransformer(**TINY)), backend='eager')
    assert load_pretrained(model, source.state_dict()).complete  # type: ignore[arg-type]
    twin = torch.compile(wrap(SwinTransformer(**TINY)), backend='eager')
    assert not twin.load_state_dict(model.state_dict()).missing_keys  # type: ignore[attr-defined]
    assert load_pretrained(SwinTransformer(**TINY), model.state_dict()).complete  # type: ignore[attr-defined]


@pytest.fixture
def one_process() -> Iterator[Any]:
    """A device mesh of one process."""
    if not torch.distributed.is_available() or torch.distributed.is_initialized():
        pytest.skip('needs torch.distributed, not in use yet')
    torch.distributed.init_process_group('gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield torch.distributed.init_device_mesh('cpu', (1,))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('build', [tiny_backbone, on_meta])
def test_sharded_parameters_get_their_shards(build: Any, one_process: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    source, model = tiny_backbone(window_size=4), build(window_size=4)
    for stage in model.layers:
        for block in stage.blocks:
            fully_shard(block, mesh=one_process)
    fully_shard(model, mesh=one_process)
    report = load_pretrained(model, source.state_dict())
    assert report.complete and len(report.loaded) == report.total
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), source.state_dict()[name]), name
    assert load_pretrained(tiny_backbone(window_size=4), model.state_dict()).complete
    assert same_maps(model, source)


def test_flattened_parameters_are_an_error() -> None:
    model = SwinTransformer(**TINY)
    model.patch_embed.proj.weight = nn.Parameter(model.patch_embed.proj.weight.detach().flatten())
    with pytest.raises(InputError, match='already sharded or quantised: load its weights first'):
        load_pretrained(model, tiny_backbone().state_dict())


def test_mm_swin_transformer_on_meta_gets_weights_and_bias_table_indices() -> None:
    options: dict[str, Any] = dict(embed_dims=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4)
    source = randomize(MMSwinTransformer(**options))
    for state in (source.state_dict(), dict(source.named_parameters())):
        with torch.device('meta'):
            model = MMSwinTransformer(**options)
        assert load_pretrained(model, state).complete
        assert not any(value.is_meta for value in model.state_dict().values())
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
        assert same_maps(model, source)
