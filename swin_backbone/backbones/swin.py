"""Swin Transformer as a backbone for dense prediction: from an image to a pyramid of feature maps."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from swin_backbone.attention import position_encoding
from swin_backbone.attention.performer import PerformerAttention
from swin_backbone.attention.spatial_mixing import SpatialMixing
from swin_backbone.attention.window import INITIAL_LOGIT_SCALE
from swin_backbone.attention.window_plan import is_recording
from swin_backbone.backbones.argument_checks import check_image, raise_unknown_arguments
from swin_backbone.backbones.blocks import PatchEmbed, ResPostNormBlock, Stage, to_dtype_of
from swin_backbone.backbones.intermediates import check_norms, select_stages
from swin_backbone.backbones.options import BackboneOptions, resolve_options
from swin_backbone.backbones.stages import Parts, build_stage
from swin_backbone.checkpoint import LoadReport, convert_on_load, load_pretrained
from swin_backbone.checkpoint.parameter_names import plain
from swin_backbone.errors import InputError

INIT_STD = 0.02

InitConfig = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class FeatureInfo(list[dict[str, int]]):
    """Information on the maps of a backbone: a dictionary per map, with timm's methods to collect values."""

    def channels(self) -> list[int]:
        """Return the channels of every map."""
        return [info['num_chs'] for info in self]

    def reduction(self) -> list[int]:
        """Return the stride of every map in pixels."""
        return [info['reduction'] for info in self]


class SwinTransformer(nn.Module):
    """Swin Transformer, V1 (Liu et al., ICCV 2021) and V2 (Liu et al., CVPR 2022), for detectors and segmenters.

    The named sizes are listed in :data:`swin_backbone.VARIANTS`. Windows, padding, shift and masks
    follow the original detection code, so that released detectors give the same maps. Any image size works.

    Args:
        variant: 'tiny', 'small', 'base', 'large', for V1 also 'tiny-c24', for V2 also 'huge', 'giant' and
            'giant-simmim'; None if all sizes below are given.
        version: 1, or 2 for norms after the branches, scaled cosine attention and a continuous position bias.
        norm_order: 'pre' (V1), norms before attention and MLP, or 'post' (V2), norms at the end of residual branches.
            If None, this and the two options below are those of the version (Swin V2 paper, Tables 1 and 6).
        similarity: 'dot' (V1), scaled products of queries and keys, or 'cosine' (V2) with a learned scale.
        position_bias: 'table' (V1), a parameter per offset between tokens of a window; 'log' (V2), a network of
            log-spaced offsets; or 'linear', the same network of linear offsets.
        embed_dim: channels of the first stage; stage ``i`` has ``2**i`` times as many. Overrides the variant.
        depths: blocks per stage. Overrides the variant.
        num_heads: attention heads per stage. Overrides the variant.
        window_size: side of a window in tokens, or (rows, columns), for all stages; or one of these per stage, such as
            ``(7, 7, 14, 7)`` (two integers are always rows and columns). 7 for V1 and 8 for V2 by default.
        mlp_ratio: hidden channels of an MLP as a multiple of its input channels.
        qkv_bias: whether queries, keys and values have a bias (V2: queries and values).
        patch_size: side of a patch in pixels, the stride of the first map.
        in_channels: channels of the image.
        patch_norm: whether a norm follows the patch embedding.
        drop_rate: dropout after the embedding, the attention projection and in the MLPs.
        attn_drop_rate: dropout on attention weights.
        drop_path_rate: stochastic depth of the last block; earlier blocks grow linearly up to it from 0.
        position_encoding: 'relative' (default), 'none', 'absolute', 'absolute+relative', or 'relative-only': weights
            are the softmax of the relative bias, without queries and keys (the paper's 'rel. pos. w/o app.').
        shift: whether every second block shifts its windows (False: the paper's 'w/o shifting', Table 4).
        attention_method: 'shifted-cyclic' (default); 'window', the same as ``shift=False``; 'shifted-padding', equal to
            the default and slower; 'sliding-naive' or 'sliding-kernel', a neighbourhood of ``window_size`` around every
            token, equal to each other; 'performer', linear attention over the whole map, for V1 only and always without
            relative position bias (the paper's Table 5).
        backend: implementation of window attention: 'triton' (needs an NVIDIA GPU, see docs/gpu.md), 'sdpa', 'eager'
            (the definition), or 'auto': the first of these that supports the input.
        pretrain_img_size: side of the pre-training images in pixels, or (height, width): the grid of an absolute
            embedding.
        pretrained_window_sizes: 'log' and 'linear' bias: the window per stage that the weights were trained with; 0 for
            ``window_size``.
        out_indices: the stages whose maps are returned, ascending. Stages after the last one are not built.
        frozen_stages: -1 trains all; ``k >= 0`` freezes the embeddings and the first ``k`` stages with their output
            norms, as in MMDetection (one stage more than the same number in the original code).
        with_cp: whether blocks are recomputed in the backward pass to save memory; or the stages that do this.
        sequential: the stages that compute attention for a few windows at a time, and recompute it in the backward
            pass, to save memory with large windows on large maps (Swin V2 paper, section 3.4: stages 0 and 1).
        small_maps: how to handle a map that is no larger than a window, in rows or in columns: 'pad' (default) pads it
            to whole windows and shifts them, as in the original detection code; 'shrink' does not shift and limits the
            sides of a window to the shortest side of the map, as in the original classification code. The position
            biases are then those of the remaining offsets.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` with any source of :func:`swin_backbone.load_pretrained`,
            another initialiser of mmengine, or a list of them. With ``strict=False`` in the dict, parameters that do
            not match are skipped.

    Raises:
        InputError: if an option is unknown, or incompatible with the others.
    """

    parts: ClassVar[Parts] = Parts()
    layers: nn.ModuleList

    def __init__(
        self,
        variant: str | None = 'tiny',
        version: int = 1,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: int | Sequence[int] | Sequence[Sequence[int]] | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        patch_size: int = 4,
        in_channels: int = 3,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        position_encoding: str = 'relative',
        shift: bool = True,
        attention_method: str = 'shifted-cyclic',
        backend: str = 'auto',
        pretrain_img_size: int | Sequence[int] = 224,
        pretrained_window_sizes: Sequence[int] | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        with_cp: bool | Sequence[int] = False,
        init_cfg: InitConfig = None,
        norm_order: str | None = None,
        similarity: str | None = None,
        position_bias: str | None = None,
        sequential: Sequence[int] = (),
        small_maps: str = 'pad',
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if kwargs:
            raise_unknown_arguments(list(kwargs))
        options = resolve_options(
            variant=variant,
            version=version,
            norm_order=norm_order,
            similarity=similarity,
            position_bias=position_bias,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            patch_size=patch_size,
            in_channels=in_channels,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            position_encoding=position_encoding,
            shift=shift,
            attention_method=attention_method,
            backend=backend,
            pretrain_img_size=pretrain_img_size,
            pretrained_window_sizes=pretrained_window_sizes,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            with_cp=with_cp,
            sequential=sequential,
            small_maps=small_maps,
        )
        self.build(options, patch_norm, init_cfg)

    def build(self, options: BackboneOptions, patch_norm: bool, init_cfg: InitConfig) -> None:
        """Create and initialise all modules."""
        self.options = options
        self.init_cfg = init_cfg
        self.load_report: LoadReport | None = None
        self.patch_embed = self.build_embedding(patch_norm)
        if options.position.absolute:
            self.absolute_pos_embed = position_encoding.absolute_embedding(options.embed_dim, options.pretrain_grid)
        self.pos_drop = nn.Dropout(options.drop_rate)
        stages = [build_stage(options, index, self.parts) for index in range(options.num_stages)]
        self.add_module(self.parts.stages, nn.ModuleList(stages))
        for index in options.out_indices:
            self.add_module(f'norm{index}', nn.LayerNorm(options.channels(index)))
        self.apply(initialize)
        self._register_load_state_dict_pre_hook(convert_on_load, with_module=True)
        self.freeze()
        self.is_uninitialized = self.patch_embed.proj.weight.is_meta

    def build_embedding(self, patch_norm: bool) -> PatchEmbed:
        """Create the patch embedding."""
        options = self.options
        return self.parts.embed(options.patch_size, options.in_channels, options.embed_dim, patch_norm)

    @property
    def stage_list(self) -> list[Stage]:
        """The stages that are built."""
        return list(cast(Any, self.get_submodule(self.parts.stages)))

    @property
    def out_indices(self) -> tuple[int, ...]:
        """The stages whose maps are returned."""
        return self.options.out_indices

    @property
    def num_features(self) -> tuple[int, ...]:
        """Channels of every stage that is built."""
        return tuple(self.options.channels(index) for index in range(self.options.num_stages))

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels (``num_chs``) and stride in pixels (``reduction``) of every returned map."""
        patch = self.options.patch_size
        return FeatureInfo(
            dict(num_chs=self.num_features[i], reduction=patch * 2**i, index=i) for i in self.out_indices
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of ``out_indices`` from an image ``[B, in_channels, H, W]``.

        Returns:
            One map ``[B, embed_dim * 2**i, ceil(H / 2**(i+2)), ceil(W / 2**(i+2))]`` per output stage ``i`` (for
            patches of 4 pixels), in the dtype of the weights, or of autocast.

        Raises:
            InputError: if the image has a wrong shape.
        """
        return tuple(self.run_stages(image, self.out_indices, norm=True)[1])

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute maps of any stages, as timm's method of this name does.

        Args:
            x: image ``[B, in_channels, H, W]``.
            indices: stage indices, negative ones counted from the end; an integer for the last stages; None for all.
            norm: whether to apply the output norms, which only the stages of ``out_indices`` have.
            stop_early: whether to skip the stages after the last one of ``indices``.
            output_fmt: 'NCHW', the layout of the maps.
            intermediates_only: whether to return only the maps.

        Returns:
            The map of the last stage that was run, channels last, normalized if it has an output norm; and the maps.

        Raises:
            InputError: if there is no such stage, norm or layout, or the image has a wrong shape.
        """
        if output_fmt != 'NCHW':
            raise InputError(f"output_fmt={output_fmt!r} is not supported: use 'NCHW'.")
        wanted = select_stages(indices, self.options.num_stages)
        if norm:
            check_norms(wanted, self.out_indices)
        count = wanted[-1] + 1 if stop_early else self.options.num_stages
        last, maps = self.run_stages(x, wanted, norm, count)
        if intermediates_only:
            return maps
        return self.get_submodule(f'norm{count - 1}')(last) if count - 1 in self.out_indices else last, maps

    def run_stages(
        self, image: Tensor, wanted: Sequence[int], norm: bool, count: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the map of the last stage, channels last, and the maps of ``wanted`` stages, channels first.

        Args:
            image: see :meth:`forward`. The maps get its memory format.
            wanted: stage indices, ascending.
            norm: whether to apply the output norms to the maps of ``wanted`` stages.
            count: number of stages to run; 0: up to the last one of ``wanted``.
        """
        self.check_input(image)
        channels_last = image.shape[1] > 1 and not is_recording() and image.stride(1) == 1
        x = self.patch_embed(to_dtype_of(self.patch_embed.proj, image))
        if self.options.position.absolute:
            x = x + position_encoding.embedding_for(self.position_map(), (x.shape[1], x.shape[2]))
        x = self.pos_drop(x)
        outs = []
        stages = self.stage_list[: count or wanted[-1] + 1]
        for index, stage in enumerate(stages):
            x = stage(x if index == 0 else stages[index - 1].merge(x))
            if index in wanted:
                out = (self.get_submodule(f'norm{index}')(x) if norm else x).movedim(-1, 1)
                outs.append(out if channels_last else out.contiguous())
        return x, outs

    def check_input(self, image: Tensor) -> None:
        """Raise an error if :meth:`forward` does not support the image."""
        check_image(image, self.options.in_channels)

    def position_map(self) -> Tensor:
        """Return the absolute embedding ``[1, C, rows, columns]``."""
        return self.absolute_pos_embed

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for layer-wise learning-rate decay.

        Args:
            param_name: name in the whole model.
            prefix: name of the backbone in the model, with a dot at its end; other parameters have the largest depth.
        """
        depths = self.options.depths[: self.options.num_stages]
        inside = param_name.startswith(prefix)
        depth = layer_depth(param_name.removeprefix(prefix), depths) if inside else sum(depths) + 1
        return depth, sum(depths) + 2

    def frozen_modules(self) -> list[nn.Module]:
        """Return the modules that ``frozen_stages`` freezes."""
        frozen = self.options.frozen_stages
        if frozen < 0:
            return []
        modules: list[nn.Module] = [self.patch_embed, self.pos_drop, *self.stage_list[:frozen]]
        return modules + [self.get_submodule(f'norm{index}') for index in self.out_indices if index < frozen]

    def freeze(self) -> None:
        """Stop the gradients of the frozen part and put it in evaluation mode."""
        for module in self.frozen_modules():
            module.eval().requires_grad_(False)
        if self.options.position.absolute and self.options.frozen_stages >= 0:
            self.absolute_pos_embed.requires_grad_(False)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable or disable activation checkpointing of all blocks (``with_cp``)."""
        for stage in self.stage_list:
            stage.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay in the papers' recipes, except norms and biases."""
        exempt = ('absolute_pos_embed', 'relative_position_bias_table', 'logit_scale', 'cpb_mlp')
        return {name for name, _ in self.named_parameters() if any(part in exempt for part in name.split('.'))}

    def train(self, mode: bool = True) -> 'SwinTransformer':
        """Set the training mode as for any module, except that the frozen part stays in evaluation mode."""
        super().train(mode)
        for module in self.frozen_modules():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Apply ``init_cfg``; mmengine calls this before training. Without ``init_cfg``, it changes no weights.

        A backbone that was created on 'meta' and allocated by ``to_empty`` is initialised first.

        The report of ``type='Pretrained'`` is stored as ``load_report``.

        Raises:
            InputError: if the weights cannot be read, or do not cover the backbone.
        """
        if self.is_uninitialized and not self.patch_embed.proj.weight.is_meta:
            self.apply(reset_module)
            self.is_uninitialized = False
        configs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else list(self.init_cfg or ())
        others = [config for config in configs if not is_pretrained(config)]
        if others:
            from mmengine.model import initialize as mmengine_initialize

            mmengine_initialize(self, others)
        for config in filter(is_pretrained, configs):  # last, as in mmengine, to overwrite other initialisers
            self.load_report = load_pretrained(self, config['checkpoint'], config.get('strict', True))


def reset_module(module: nn.Module) -> None:
    """Reset the parameters and buffers of a module to initial values; call it by ``nn.Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.LayerNorm | SpatialMixing):
        module.reset_parameters()
    for name, parameter in module.named_parameters(recurse=False):
        if name in ('q_bias', 'v_bias'):
            nn.init.zeros_(parameter)
        elif name == 'logit_scale':
            nn.init.constant_(parameter, math.log(INITIAL_LOGIT_SCALE))
        elif name in ('relative_position_bias_table', 'absolute_pos_embed'):
            nn.init.trunc_normal_(parameter, std=position_encoding.TABLE_STD)
    for name, buffer in module.named_buffers(recurse=False):
        if name == 'relative_position_index':
            window = cast(Any, module).window
            buffer.copy_(position_encoding.relative_position_index(window).view_as(buffer))
    if isinstance(module, PerformerAttention):
        module.features.copy_(module.draw(module.seed))
    initialize(module)


def is_pretrained(config: Mapping[str, Any]) -> bool:
    """Return whether an initialiser loads a checkpoint; its type is a name, a dotted path or a class."""
    kind = config['type']
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')


def initialize(module: nn.Module) -> None:
    """Initialise linear layers and V2's zero norms as in the original code; convolutions keep PyTorch's values."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, ResPostNormBlock):
        for norm in (module.norm1, module.norm2):
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)


BLOCK_NAME = re.compile(r'(?:layers|stages)\.(\d+)\.(?:blocks\.(\d+)|downsample)\.')


def layer_depth(name: str, depths: tuple[int, ...]) -> int:
    """Return the depth of a parameter: 0 for the embeddings, then one per block; output norms have the largest.

    A merging layer has the depth of the last block before it, as in MMPreTrain's Swin Transformer.
    """
    name = plain(name)
    if name.startswith(('patch_embed.', 'absolute_pos_embed')):
        return 0
    match = BLOCK_NAME.match(name)
    if match is None:
        return sum(depths) + 1
    stage, block = int(match[1]), match[2]
    return sum(depths[: stage + 1]) if block is None else sum(depths[:stage]) + int(block) + 1
