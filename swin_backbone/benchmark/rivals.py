"""What is timed: our backbone on every backend that can run, and other people's on the same input."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels import BACKENDS
from swin_backbone.attention.plan import WindowPlan
from swin_backbone.checkpoint.convert import from_native
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.errors import InputError
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

Call = Callable[[Any, Tensor], Any]
Shape = tuple[int, int]


@dataclass
class Subjects:
    """Implementations of one network, and those that could not be had.

    Attributes:
        models: by name, the reference first.
        left_out: by name, why it is not among them.
    """

    models: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def check_names(against: Sequence[str]) -> None:
    """Refuse the name of an implementation that is not known here."""
    unknown = [name for name in against if name not in BUILDERS]
    if unknown:
        raise InputError(f'unknown implementation {", ".join(unknown)}: use {", ".join(BUILDERS)}.')


def ours(backend: str) -> str:
    """The name of our row for a backend."""
    return f'swin_backbone ({backend})'


def usable_backends(device: str) -> list[str]:
    """The backends that can run on a device, the definition first."""
    return list(reversed(BACKENDS))


def find_backbones(variant: str, version: int, shape: Shape, against: Sequence[str], device: str) -> Subjects:
    """Build every implementation without stochastic depth, the toolkits' own with our weights.

    Args:
        variant: a name of :data:`swin_backbone.VARIANTS`.
        version: 1 or 2.
        shape: height and width of the image in pixels, which some implementations must be told.
        against: keys of :data:`BUILDERS`.
        device: 'cpu' or 'cuda'.

    Raises:
        InputError: the variant or an implementation is unknown.
    """
    check_names(against)
    get_variant(variant, version)
    base = SwinTransformer(variant, version, drop_path_rate=0.0)
    found = Subjects()
    for name in against:
        try:
            found.models[name] = BUILDERS[name](variant, version, shape)
        except LookupError:
            found.left_out[name] = f'it has no {variant} of version {version}'
        except Exception as error:  # a package that does not fit raises anything when it is imported
            why = f'it cannot be used: {error}'
            found.left_out[name] = 'it is not installed' if find_spec(name) is None else why
    for name in ('mmdet', 'mmseg'):
        if name in found.models:
            share_weights(base, found.models[name])
    for backend in usable_backends(device):
        model = SwinTransformer(variant, version, drop_path_rate=0.0, backend=backend)
        model.load_state_dict(base.state_dict())
        found.models[ours(backend)] = model
    for model in found.models.values():
        model.to(device)
    return found


def share_weights(source: nn.Module, stock: nn.Module) -> None:
    """Give a backbone of the toolkits the weights of ours."""
    dialect = WRITABLE['mmdet']
    state = from_native({name: value.detach() for name, value in source.state_dict().items()}, dialect)
    stock.load_state_dict({name.removeprefix(dialect.roots[0]): value for name, value in state.items()}, strict=False)


def build_stock(toolkit: str) -> Callable[[str, int, Shape], Any]:
    """A builder of a toolkit's own backbone."""

    def build(variant: str, version: int, shape: Shape) -> Any:
        if version != 1:
            raise LookupError(version)
        sizes = get_variant(variant, version)
        stock = import_module(f'{toolkit}.models.backbones').SwinTransformer
        return stock(embed_dims=sizes.embed_dim, depths=sizes.depths, num_heads=sizes.num_heads, drop_path_rate=0.0)

    return build


def build_timm(variant: str, version: int, shape: Shape) -> Any:
    """timm's feature pyramid, which has no output norms."""
    timm = import_module('timm')
    name = f'swin_{variant}_patch4_window7_224' if version == 1 else f'swinv2_{variant}_window8_256'
    if name not in timm.list_models('swin*'):
        raise LookupError(name)
    return timm.create_model(name, features_only=True, img_size=shape, strict_img_size=False, drop_path_rate=0.0)


def build_torchvision(variant: str, version: int, shape: Shape) -> Any:
    """torchvision's classifier without its end: the last map only, and no norm after it."""
    models = import_module('torchvision.models')
    name = f'swin_{"v2_" if version == 2 else ""}{variant[0]}'
    if name not in models.list_models():
        raise LookupError(name)
    return models.get_model(name, weights=None, stochastic_depth_prob=0.0).features


def build_transformers(variant: str, version: int, shape: Shape) -> Any:
    """The backbone of Hugging Face's Transformers."""
    transformers = import_module('transformers')
    sizes = get_variant(variant, version)
    kind = 'Swin' if version == 1 else 'Swinv2'
    config = getattr(transformers, f'{kind}Config')(
        embed_dim=sizes.embed_dim,
        depths=list(sizes.depths),
        num_heads=list(sizes.num_heads),
        window_size=DEFAULT_WINDOW[version],
        image_size=shape,
        drop_path_rate=0.0,
        out_features=['stage1', 'stage2', 'stage3', 'stage4'],
    )
    return getattr(transformers, f'{kind}Backbone')(config)


BUILDERS: dict[str, Callable[[str, int, Shape], Any]] = {
    'mmdet': build_stock('mmdet'),
    'mmseg': build_stock('mmseg'),
    'timm': build_timm,
    'torchvision': build_torchvision,
    'transformers': build_transformers,
}
"""Other implementations; the first that is asked for and there is the reference of all ratios."""


def maps_of(model: Any, image: Tensor) -> list[Tensor]:
    """The maps that a backbone of whatever implementation returns."""
    out = model(image)
    out = getattr(out, 'feature_maps', out)
    return [out] if isinstance(out, Tensor) else list(out)


def shifted_attention(name: str, model: Any, stage: int) -> Call | None:
    """How to call a stage's displaced window attention on ``[B, H, W, C]``; None where it has no call of its own."""
    if name.startswith('swin_backbone'):
        ours_attn = model.layers[stage].blocks[1].attn
        return lambda _, x: [ours_attn(x, WindowPlan(x.shape[1], x.shape[2], ours_attn.window), True)]
    if name in ('mmdet', 'mmseg'):
        attn = model.stages[stage].blocks[1].attn
        return lambda _, x: [attn(x.flatten(1, 2), tuple(x.shape[1:3]))]
    if name == 'torchvision':
        return lambda _, x: [model[2 * stage + 1][1].attn(x)]
    return None


def stage_input(batch: int, shape: Shape, variant: str, version: int, stage: int) -> Tensor:
    """Random tokens ``[B, H, W, C]`` of a stage for images of ``shape`` pixels."""
    stride, channels = 4 * 2**stage, get_variant(variant, version).embed_dim * 2**stage
    return torch.randn(batch, -(-shape[0] // stride), -(-shape[1] // stride), channels)


def autocast(dtype: torch.dtype, device: str) -> AbstractContextManager[Any]:
    """Mixed precision in ``dtype``; plain computation in float32."""
    return nullcontext() if dtype is torch.float32 else torch.autocast(device, dtype)


def forward_step(model: Any, x: Tensor, dtype: torch.dtype, call: Call = maps_of) -> Callable[[], Any]:
    """One forward pass without gradients; the model must be in evaluation mode."""

    def step() -> Any:
        with torch.no_grad(), autocast(dtype, x.device.type):
            return call(model, x)

    return step


def training_step(model: Any, x: Tensor, dtype: torch.dtype, call: Call = maps_of) -> Callable[[], Any]:
    """One forward and backward pass; the model must be in training mode."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(dtype, x.device.type):
            outs = call(model, x)
        torch.stack([out.float().mean() for out in outs]).sum().backward()

    return step


def make_steps(found: Subjects, calls: dict[str, Call], x: Tensor, dtype: torch.dtype, train: bool) -> dict[str, Any]:
    """What to time for every implementation that has a call."""
    make = training_step if train else forward_step
    for model in found.models.values():
        model.train(train)  # the stock backbones return None here
    return {name: make(found.models[name], x, dtype, call) for name, call in calls.items()}
