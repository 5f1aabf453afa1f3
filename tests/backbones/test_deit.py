"""DeiT with a pyramid: its maps, its published weights, and parts compared with their formulas."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from swin_backbone.backbones.deit import DeiTPyramid, resize_embedding
from swin_backbone.backbones.global_block import GlobalAttention, GlobalBlock
from swin_backbone.errors import InputError
from tests.helpers import randomize, relative_error

SMALL = dict(embed_dim=16, depth=4, num_heads=2, pretrain_img_size=64, drop_path_rate=0.0, out_indices=(0, 1, 2, 3))


def published(model: DeiTPyramid, side: int = 4, distilled: bool = False) -> dict[str, Tensor]:
    """Return random weights in the layout of published DeiT files, for the transformer of ``model``."""
    state = {n: torch.randn_like(p) for n, p in model.named_parameters() if not n.startswith(('out_norms', 'pyramid'))}
    state['pos_embed'] = torch.randn(1, 1 + distilled + side * side, 16)
    state.update({'norm.weight': torch.randn(16), 'norm.bias': torch.randn(16)})
    state.update({'head.weight': torch.randn(10, 16), 'head.bias': torch.randn(10)})
    if distilled:
        state.update({'dist_token': torch.randn(1, 1, 16), 'head_dist.weight': torch.randn(10, 16)})
    return state


def save(state: dict[str, Tensor], folder: Path) -> str:
    path = folder / 'deit.pth'
    torch.save({'model': state}, path)
    return str(path)


@pytest.mark.parametrize('size', [(64, 64), (65, 31), (1, 1), (128, 48)])
def test_maps_have_the_sizes_of_a_swin_pyramid(size: tuple[int, int]) -> None:
    maps = DeiTPyramid(**SMALL)(torch.randn(2, 3, *size))
    expected = [
        (channels, -(-size[0] // s), -(-size[1] // s))
        for channels, s in zip((4, 8, 16, 16), (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(m.shape) for m in maps] == [(2, *shape) for shape in expected]


def test_deit_s_has_the_published_number_of_parameters() -> None:
    with torch.device('meta'):
        model = DeiTPyramid()
    transformer = sum(p.numel() for n, p in model.named_parameters() if not n.startswith(('out_norms', 'pyramid')))
    assert transformer == 22_050_664 - (384 * 1000 + 1000) - 2 * 384  # without the classifier and the last norm


def test_global_block_equals_its_formula() -> None:
    block = randomize(GlobalBlock(8, num_heads=2))
    x = torch.randn(2, 5, 8)
    q, k, v = block.attn.qkv(block.norm1(x)).split(8, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = (q[..., head] @ k[..., head].transpose(1, 2) / 4**0.5).softmax(dim=-1)
        heads.append(weights @ v[..., head])
    y = x + block.attn.proj(torch.cat(heads, dim=-1))
    y = y + block.mlp.fc2(torch.nn.functional.gelu(block.mlp.fc1(block.norm2(y))))
    assert relative_error(block(x), y) < 1e-5


def test_map_with_the_stride_of_a_patch_is_the_norm_of_the_tokens() -> None:
    model = randomize(DeiTPyramid(**SMALL))
    image = torch.randn(1, 3, 64, 48)
    x = model.patch_embed.proj(image).flatten(2).transpose(1, 2)
    x = torch.cat([model.cls_token, x], dim=1) + resize_embedding(model.pos_embed, (4, 3))
    for block in model.blocks[:3]:
        x = block(x)
    expected = model.out_norms[2](x[:, 1:]).transpose(1, 2).reshape(1, 16, 4, 3)
    assert relative_error(model(image)[2], expected) < 1e-5


def test_maps_do_not_include_padding_of_the_image() -> None:
    model = randomize(DeiTPyramid(**SMALL)).eval()
    image = torch.randn(1, 3, 40, 40)
    padded = torch.nn.functional.pad(image, (0, 8, 0, 8))
    for ours, whole in zip(model(image), model(padded), strict=True):
        assert torch.equal(ours, whole[:, :, : ours.shape[2], : ours.shape[3]])


def test_attention_is_global() -> None:
    attention = randomize(GlobalAttention(8, num_heads=2))
    x = torch.randn(1, 6, 8, requires_grad=True)
    attention(x)[0, 0].sum().backward()
    assert x.grad[0].abs().sum(dim=-1).all()


def test_every_parameter_gets_a_gradient() -> None:
    model = DeiTPyramid(**SMALL)
    sum(m.square().sum() for m in model(torch.randn(1, 3, 48, 64))).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize('distilled', [False, True])
@pytest.mark.parametrize('side', [4, 6])
def test_published_deit_weights_load(side: int, distilled: bool, tmp_path: Path) -> None:
    model = DeiTPyramid(**SMALL)
    state = published(model, side, distilled)
    kept = {name: p.clone() for name, p in model.named_parameters() if name.startswith(('out_norms', 'pyramid'))}
    model.init_cfg = dict(type='Pretrained', checkpoint=save(state, tmp_path))
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name == 'pos_embed':
            assert torch.equal(parameter[:, 0], state[name][:, 0])
            first = 1 + distilled
            expected = state[name][:, first:] if side == 4 else None
            assert expected is None or torch.equal(parameter[:, 1:], expected)
        else:
            assert torch.equal(parameter, kept[name] if name in kept else state[name])


def test_fewer_blocks_load_the_first_blocks_of_a_file(tmp_path: Path) -> None:
    state = published(DeiTPyramid(**SMALL))
    model = DeiTPyramid(
        **{**SMALL, 'out_indices': (0, 0, 1, 2)}, init_cfg=dict(type='Pretrained', checkpoint=save(state, tmp_path))
    )
    model.init_weights()
    assert len(model.blocks) == 3
    assert torch.equal(model.blocks[2].attn.qkv.weight, state['blocks.2.attn.qkv.weight'])


@pytest.mark.parametrize(
    'spoil',
    [
        lambda state: state.pop('blocks.1.attn.qkv.weight'),
        lambda state: state.update({'patch_embed.proj.weight': torch.zeros(8, 3, 16, 16)}),
        lambda state: state.update({'layers.0.blocks.0.norm1.weight': torch.zeros(16)}),
    ],
)
def test_mismatched_weights_raise_input_error_and_change_nothing(spoil: object, tmp_path: Path) -> None:
    model = DeiTPyramid(**SMALL)
    before = {name: p.clone() for name, p in model.named_parameters()}
    state = published(model)
    spoil(state)
    model.init_cfg = dict(type='Pretrained', checkpoint=save(state, tmp_path))
    with pytest.raises(InputError, match='does not match this DeiT'):
        model.init_weights()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(embed_dim=18), 'multiple of 4'),
        (dict(num_heads=3), 'num_heads'),
        (dict(patch_size=6), 'patch_size'),
        (dict(out_indices=(1, 2, 3)), '4 of the blocks'),
        (dict(out_indices=(1, 2, 3, 4)), 'blocks 0 to 3'),
    ],
)
def test_invalid_options_raise_input_error(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeiTPyramid(**{**SMALL, **options})


def test_image_of_a_wrong_shape_raises_input_error() -> None:
    with pytest.raises(InputError, match='expected an image'):
        DeiTPyramid(**SMALL)(torch.randn(1, 4, 32, 32))
