"""The backbones to compare: ours with every backend, and other implementations.

Other implementations are imported only when they are built.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone import SwinTransformer
from swin_backbone.attention.kernels import BACKENDS
from swin_backbone.attention.kernels.triton_launch import unavailable_reason
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.checkpoint.convert import from_native
from swin_backbone.checkpoint.layouts import WRITABLE
from swin_backbone.errors import InputError
from swin_backbone.mmcv_ops import install_mmcv_ops
from swin_backbone.variants import DEFAULT_WINDOW, get_variant

Call = Callable[[Any, Tensor], Any]
Shape = tuple[int, int]
OURS = {
    f'swin_backbone ({backend})': backend
    for backend in reversed(BACKENDS)
    if backend != 'triton' or unavailable_reason(torch.device('cuda')) is None
}
"""Our backends that run on this machine, by the name of their row; the first one is the definition."""


@dataclass
class Subjects:
    """Implementations of one network.

    Attributes:
        models: models by name, the reference first.
        left_out: reasons why implementations could not be built, by name.
    """

    models: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def check_names(against: Sequence[str]) -> None:
    """Raise InputError for an unknown implementation."""
    unknown = [name for name in against if name not in BUILDERS]
    if unknown:
        raise InputError(f'unknown implementation {", ".join(unknown)}: use {", ".join(BUILDERS)}.')


def find_backbones(variant: str, version: int, shape: Shape, against: Sequence[str], device: str) -> Subjects:
    """Build every implementation without stochastic depth. Those of the toolkits get our weights.

    Args:
        variant: a name of :data:`swin_backbone.VARIANTS`.
        version: 1 or 2.
        shape: height and width of the image in pixels, which some constructors need.
        against: keys of :data:`BUILDERS`.
        device: 'cpu' or 'cuda'.

    Raises:
        InputError: if the variant or an implementation is unknown.
    """
    check_names(against)
    get_variant(variant, version)
    base = SwinTransformer(variant, version, drop_path_rate=0.0)
    found = Subjects()
    for name in against:
        try:
            model = BUILDERS[name](variant, version, shape)
        except Exception as error:  # importing an incompatible package may raise any exception
            found.left_out[name] = f'it cannot be used: {error}' if find_spec(name) else 'it is not installed'
            continue
        if model is None:
            found.left_out[name] = f'it has no {variant} of version {version}'
            continue
        if name in ('mmdet', 'mmseg'):
            share_weights(base, model)
        found.models[name] = model
    for name, backend in OURS.items():
        found.models[name] = SwinTransformer(variant, version, drop_path_rate=0.0, backend=backend)
        found.models[name].load_state_dict(base.state_dict())
    for model in found.models.values():
        model.to(device)
    return found


def compile_all(found: Subjects) -> None:
    """Compile every implementation in place, ours once, and add ours without compilation."""
    eager = [found.models.pop(name) for name in OURS][-1]  # compiled graphs use one operator for all backends
    found.models['swin_backbone (compiled)'] = copy.deepcopy(eager)
    for model in found.models.values():
        model.compile()
    found.models['swin_backbone (not compiled)'] = eager


def share_weights(source: nn.Module, stock: nn.Module) -> None:
    """Copy the weights of our backbone to a backbone of the toolkits."""
    layout = WRITABLE['mmdet']
    state = from_native({name: value.detach() for name, value in source.state_dict().items()}, layout)
    stock.load_state_dict({name.removeprefix(layout.roots[0]): value for name, value in state.items()}, strict=False)


def build_stock(toolkit: str, variant: str, version: int, shape: Shape) -> Any:
    """Build the backbone of MMDetection or MMSegmentation."""
    if version != 1:
        return None
    install_mmcv_ops()
    sizes = get_variant(variant, version)
    stock = import_module(f'{toolkit}.models.backbones').SwinTransformer
    return stock(embed_dims=sizes.embed_dim, depths=sizes.depths, num_heads=sizes.num_heads, drop_path_rate=0.0)


def build_timm(variant: str, version: int, shape: Shape) -> Any:
    """Build timm's feature pyramid, which has no output norms."""
    timm = import_module('timm')
    name = f'swin_{variant}_patch4_window7_224' if version == 1 else f'swinv2_{variant}_window8_256'
    if name not in timm.list_models('swin*'):
        return None
    return timm.create_model(name, features_only=True, img_size=shape, strict_img_size=False, drop_path_rate=0.0)


def build_torchvision(variant: str, version: int, shape: Shape) -> Any:
    """Build the layers of torchvision's classifier below its norm and head; they return the last map only."""
    models = import_module('torchvision.models')
    name = f'swin_{"v2_" if version == 2 else ""}{variant[0]}'
    if name not in models.list_models():
        return None
    layers = models.get_model(name, weights=None).features
    for layer in layers.modules():
        if type(layer).__name__ == 'StochasticDepth':
            layer.p = 0.0  # the rate is not an argument of get_model
    return layers


def build_transformers(variant: str, version: int, shape: Shape) -> Any:
    """Build the backbone of Hugging Face Transformers."""
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
    'mmdet': partial(build_stock, 'mmdet'),
    'mmseg': partial(build_stock, 'mmseg'),
    'timm': build_timm,
    'torchvision': build_torchvision,
    'transformers': build_transformers,
}
"""Other implementations: functions of variant, version and shape that return None if there is no such model."""


def maps_of(model: Any, image: Tensor) -> list[Tensor]:
    """Run a backbone of any implementation and return its feature maps."""
    out = model(image)
    out = getattr(out, 'feature_maps', out)
    return [out] if isinstance(out, Tensor) else list(out)


def shifted_attention(name: str, model: Any, stage: int) -> Call | None:
    """Return a function that calls a stage's shifted window attention on ``[B, H, W, C]``; None if there is none."""
    if name in OURS:
        ours = model.layers[stage].blocks[1].attn
        return lambda _, x: [ours(x, WindowPlan(x.shape[1], x.shape[2], ours.window), True)]
    if name in ('mmdet', 'mmseg'):
        attn = model.stages[stage].blocks[1].attn
        return lambda _, x: [attn(x.flatten(1, 2), tuple(x.shape[1:3]))]
    if name == 'torchvision':
        return lambda _, x: [model[2 * stage + 1][1].attn(x)]
    return None


def stage_input(batch: int, shape: Shape, variant: str, version: int, stage: int) -> Tensor:
    """Create random tokens ``[B, H, W, C]`` of a stage for images of ``shape`` pixels."""
    stride, channels = 4 * 2**stage, get_variant(variant, version).embed_dim * 2**stage
    return torch.randn(batch, -(-shape[0] // stride), -(-shape[1] // stride), channels)


def autocast(dtype: torch.dtype, device: str) -> AbstractContextManager[Any]:
    """Return an autocast context for ``dtype``, or a null context for float32."""
    return nullcontext() if dtype is torch.float32 else torch.autocast(device, dtype)


def forward_step(model: Any, x: Tensor, dtype: torch.dtype, call: Call = maps_of) -> Callable[[], Any]:
    """Return a function that runs a forward pass without gradients; the model must be in evaluation mode."""

    def step() -> Any:
        with torch.no_grad(), autocast(dtype, x.device.type):
            return call(model, x)

    return step


def training_step(model: Any, x: Tensor, dtype: torch.dtype, call: Call = maps_of) -> Callable[[], Any]:
    """Return a function that runs a forward and backward pass; the model must be in training mode."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        with autocast(dtype, x.device.type):
            outs = call(model, x)
        torch.stack([out.float().mean() for out in outs]).sum().backward()

    return step


def make_steps(found: Subjects, calls: dict[str, Call], x: Tensor, dtype: torch.dtype, train: bool) -> dict[str, Any]:
    """Set the mode of all models, and return the step of every implementation in ``calls``."""
    make = training_step if train else forward_step
    for model in found.models.values():
        model.train(train)  # not chained: eval() of the toolkits' backbones returns None
    return {name: make(found.models[name], x, dtype, call) for name, call in calls.items()}
