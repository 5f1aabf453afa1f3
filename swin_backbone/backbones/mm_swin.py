"""Swin Transformer with the arguments and parameter names of the Swin classes of MMDetection and MMSegmentation.

Optimizers of mmengine group parameters by name, and checkpoints of these toolkits are loaded by name: with these names,
their configs and files work unchanged. The computation is that of :mod:`swin_backbone.backbones.swin`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.attention.kernels.cpu import tokenwise
from swin_backbone.attention.position_encoding import relative_position_index
from swin_backbone.attention.window import WindowAttention
from swin_backbone.attention.window_plan import WindowPlan
from swin_backbone.backbones.blocks import DropPath, PatchEmbed, PatchMerging, SwinBlock
from swin_backbone.backbones.options import BackboneOptions, check_integers, check_positive, resolve_options
from swin_backbone.backbones.stages import Parts
from swin_backbone.backbones.swin import InitConfig, SwinTransformer
from swin_backbone.checkpoint.parameter_names import NOT_IN_STATE_DICTS
from swin_backbone.errors import InputError

MERGING_STRIDE = 2
GELU, LAYER_NORM = MappingProxyType(dict(type='GELU')), MappingProxyType(dict(type='LN'))
ALTERNATIVE = "use the toolkit's own class for that"


class ProjectedPatches(PatchEmbed):
    """Patch embedding whose convolution is named ``projection``."""

    def __init__(self, patch_size: int, in_channels: int, embed_dim: int, patch_norm: bool) -> None:
        nn.Module.__init__(self)
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dim) if patch_norm else nn.Identity()

    @property
    def proj(self) -> nn.Module:  # type: ignore[override]
        """The convolution."""
        return self.projection


class UnfoldedMerging(PatchMerging):
    """Patch merging whose input channels are in the order of ``nn.Unfold``: the four neighbours of each channel."""

    def __init__(self, dim: int, norm_last: bool) -> None:
        nn.Module.__init__(self)
        self.norm_last = norm_last
        self.norm = nn.LayerNorm(4 * dim)  # before the reduction, as optimizer states depend on the order of parameters
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def join(self, neighbours: list[Tensor]) -> Tensor:
        """Interleave the channels of four neighbours ``[B, h, w, C]``, columns varying first: ``[B, h, w, 4C]``."""
        top_left, bottom_left, top_right, bottom_right = neighbours
        return torch.stack([top_left, top_right, bottom_left, bottom_right], dim=-1).flatten(-2)


class ShiftedWindows(nn.Module):
    """Window attention under the name ``w_msa``, with its relative position index in the state dict."""

    def __init__(self, w_msa: WindowAttention) -> None:
        super().__init__()
        tokens = w_msa.window[0] * w_msa.window[1]
        w_msa.register_buffer('relative_position_index', relative_position_index(w_msa.window).view(tokens, tokens))
        self.w_msa = w_msa

    def forward(self, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of ``x`` ``[B, H, W, C]``; same shape out."""
        return self.w_msa(x, plan, shifted)


class FeedForward(nn.Module):
    """The MLP with the toolkits' parameter names."""

    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        first = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(drop))
        self.layers = nn.Sequential(first, nn.Linear(hidden, dim), nn.Dropout(drop))

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of ``x`` ``[..., C]``."""
        layers: Any = self.layers
        first, fc2, drop = layers
        return tokenwise(layers, x, *first, fc2, drop)


class UniformDropPath(DropPath):
    """Stochastic depth that uses the same random numbers as mmcv, so that a seed drops the same branches."""

    def draw(self, kept: Tensor, keep: float) -> Tensor:
        """Fill ``kept`` with ones with probability ``keep``, and zeros otherwise."""
        return kept.uniform_().add_(keep).floor_()


class NamedBlock(SwinBlock):
    """V1's block with the modules ``attn.w_msa`` and ``ffn.layers``."""

    def __init__(
        self,
        attn: WindowAttention,
        dim: int,
        hidden: int,
        drop: float = 0.0,
        drop_path: float = 0.0,
        shifted: bool = False,
        main_norm: bool = False,
    ) -> None:
        super().__init__(ShiftedWindows(attn), dim, hidden, drop, drop_path, shifted, main_norm)
        self.drop_path = UniformDropPath(drop_path)

    def build_mlp(self, dim: int, hidden: int, drop: float) -> None:
        """Create the MLP."""
        self.ffn = FeedForward(dim, hidden, drop)

    def apply_mlp(self, x: Tensor) -> Tensor:
        """Transform every token of ``x`` ``[..., C]``."""
        return self.ffn(x)


@dataclass(frozen=True)
class AllStages(BackboneOptions):
    """Options of a backbone that builds all of its stages, as the toolkits do."""

    @property
    def num_stages(self) -> int:
        """Number of stages that are built."""
        return len(self.depths)


class MMSwinTransformer(SwinTransformer):
    """Swin Transformer V1 with the arguments, defaults and parameter names of MMDetection's and MMSegmentation's class.

    Arguments that are not listed are those of :class:`swin_backbone.SwinTransformer`. Checkpoints load strictly in both
    directions, and mmengine's optimizers treat each parameter as in the toolkits' class.

    Args:
        pretrain_img_size: side of the pre-training images in pixels, (side,), or (height, width).
        embed_dims: channels of the first stage.
        patch_size: side of a patch in pixels, an integer or two equal ones.
        strides: ``patch_size``, then 2 for every merging layer.
        out_indices: the stages whose maps are returned, in ascending order. All stages are built.
        qk_scale: factor on the logits; ``head_dim ** -0.5`` by default.
        patch_norm: whether norms follow the patch embedding and precede the reductions of merging layers.
        use_abs_pos_embed: whether an absolute embedding is added to the patches. It is resized to the image.
        act_cfg: ``dict(type='GELU')``.
        norm_cfg: ``dict(type='LN')``, optionally with ``eps`` and ``requires_grad``.
        pretrained: deprecated in the toolkits: a source for ``init_cfg``.
        convert_weights: ignored, as the layout of a file is detected.
        init_cfg: see :class:`swin_backbone.SwinTransformer`. Stages that the file does not have keep initial values.

    Raises:
        InputError: if a value is not supported here, or incompatible with the others.
    """

    parts = Parts(ProjectedPatches, (NamedBlock,), UnfoldedMerging, 'stages')

    def __init__(
        self,
        pretrain_img_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int | Sequence[int] = 4,
        window_size: int | Sequence[int] | Sequence[Sequence[int]] = 7,
        mlp_ratio: float = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        strides: Sequence[int] = (4, 2, 2, 2),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = False,
        act_cfg: Mapping[str, Any] = GELU,
        norm_cfg: Mapping[str, Any] = LAYER_NORM,
        with_cp: bool | Sequence[int] = False,
        pretrained: str | None = None,
        convert_weights: bool = False,
        frozen_stages: int = -1,
        init_cfg: InitConfig = None,
    ) -> None:
        nn.Module.__init__(self)
        side = patch_side(patch_size)
        depths = check_integers(depths, 'depths')
        check_strides(strides, side, len(depths))
        check_activation(act_cfg)
        eps, norms_trained = norm_options(norm_cfg)
        options = resolve_options(
            variant=None,
            version=1,
            norm_order=None,
            similarity=None,
            position_bias=None,
            embed_dim=check_positive(embed_dims, 'embed_dims'),
            depths=depths,
            num_heads=check_integers(num_heads, 'num_heads')[: len(depths)],
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            patch_size=side,
            in_channels=in_channels,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            position_encoding='absolute+relative' if use_abs_pos_embed else 'relative',
            shift=True,
            attention_method='shifted-cyclic',
            backend='auto',
            pretrain_img_size=unwrap_single(pretrain_img_size),
            pretrained_window_sizes=None,
            out_indices=sorted(set(check_integers(out_indices, 'out_indices'))),
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            sequential=(),
            small_maps='pad',
        )
        self.build(AllStages(**vars(options)), patch_norm, initial_weights(init_cfg, pretrained))
        if use_abs_pos_embed:
            self.absolute_pos_embed = nn.Parameter(
                self.absolute_pos_embed.detach().flatten(2).transpose(1, 2).contiguous()
            )
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = eps
                module.requires_grad_(norms_trained)
            elif isinstance(module, WindowAttention):
                module.scale = qk_scale or module.scale
            elif isinstance(module, UnfoldedMerging) and not patch_norm:
                module.add_module('norm', nn.Identity())
        self._register_load_state_dict_pre_hook(keep_position_index, with_module=True)
        self.freeze()

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        """The stages."""
        return self.stages  # type: ignore[return-value]

    def position_map(self) -> Tensor:
        """Return the absolute embedding ``[1, C, rows, columns]``."""
        return self.absolute_pos_embed.transpose(1, 2).unflatten(2, self.options.pretrain_grid)


def keep_position_index(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Replace relative position indices in a state dict that are absent or those of another window.

    They depend only on the window. This is a load_state_dict pre-hook, which runs after the conversion of the layout.
    """
    if any(name.startswith(f'{prefix}stages.') for name in state_dict):
        for name, index in module.named_buffers():
            key = prefix + NOT_IN_STATE_DICTS.sub('', name)
            given = state_dict.get(key)
            if not isinstance(given, Tensor) or given.shape != index.shape:
                state_dict[key] = index


def unwrap_single(value: Any) -> Any:
    """Return the element of a sequence of length 1; return anything else unchanged."""
    return value[0] if isinstance(value, Sequence) and len(value) == 1 else value


def patch_side(value: Any) -> int:
    """Return the side of square patches.

    Raises:
        InputError: if they are not square.
    """
    sides = set(value) if isinstance(value, Sequence) and not isinstance(value, str) else {value}
    if len(sides) != 1:
        raise InputError(f'patch_size={value!r} is not square: give one side, or {ALTERNATIVE}.')
    return check_positive(sides.pop(), 'patch_size')


def check_strides(strides: Any, side: int, stages: int) -> None:
    """Check that the strides are the patch size and then 2; strides beyond the number of stages are ignored.

    Raises:
        InputError: if they are not.
    """
    given = list(strides) if isinstance(strides, Sequence) else [strides]
    first, others = unwrap_single(given[0]) if given else None, given[1:stages]
    same = first == side or (isinstance(first, Sequence) and set(first) == {side})
    if not same or len(given) < stages or any(stride != MERGING_STRIDE for stride in others):
        raise InputError(
            f'strides={strides!r} must be patch_size ({side}) and then {MERGING_STRIDE} for each of the other '
            f'{stages - 1} stages, as patches do not overlap and merging halves the map; {ALTERNATIVE}.'
        )


def layer_config(config: Any, argument: str) -> tuple[str, dict[str, Any]]:
    """Return the type name and the options of a layer config, whose type is a name or a class.

    Raises:
        InputError: if it is not a layer config.
    """
    kind = config.get('type') if isinstance(config, Mapping) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', None)
    if name is None:
        raise InputError(f'{argument} must be a dict with the type of a layer, got {config!r}.')
    return name.rpartition('.')[2], {key: value for key, value in config.items() if key not in ('type', '_scope_')}


def check_activation(config: Mapping[str, Any]) -> None:
    """Check that the activation is exact GELU.

    Raises:
        InputError: if it is not.
    """
    name, options = layer_config(config, 'act_cfg')
    if name != 'GELU' or options not in ({}, {'approximate': 'none'}):
        raise InputError(f"act_cfg={dict(config)} is not supported: use dict(type='GELU'), or {ALTERNATIVE}.")


def norm_options(config: Mapping[str, Any]) -> tuple[float, bool]:
    """Return the ``eps`` of layer norms, and whether they are trained.

    Raises:
        InputError: if the config is not a layer norm with these options.
    """
    name, options = layer_config(config, 'norm_cfg')
    eps, trained = options.pop('eps', 1e-5), options.pop('requires_grad', True)
    if name not in ('LN', 'LayerNorm') or options:
        raise InputError(
            f"norm_cfg={dict(config)} is not supported: use dict(type='LN'), optionally with eps and requires_grad, or "
            f'{ALTERNATIVE}.'
        )
    return eps, trained


def initial_weights(init_cfg: InitConfig, pretrained: str | None) -> InitConfig:
    """Return ``init_cfg``, or the equivalent of the deprecated ``pretrained``.

    Raises:
        InputError: if both are given, or ``pretrained`` is not a string.
    """
    if pretrained is None:
        return init_cfg
    if init_cfg or not isinstance(pretrained, str):
        raise InputError(f"pretrained={pretrained!r}: give only init_cfg=dict(type='Pretrained', checkpoint=...).")
    warnings.warn("pretrained is deprecated: use init_cfg=dict(type='Pretrained', checkpoint=...)", stacklevel=3)
    return dict(type='Pretrained', checkpoint=pretrained)
