"""Count parameters and multiply-adds of detectors and segmenters as in Tables 2 and 3 of the Swin paper.

PyTorch's ``FlopCounterMode`` counts the convolutions and matrix products of a forward pass on meta tensors, which takes
seconds and little memory even for the largest model. Conventions are those of the paper: a multiply-add counts once;
window padding and the products inside attention are included; a detector has :data:`BOX_ROIS` regions in every box
stage and :data:`MASK_ROIS` in every mask stage; the auxiliary head of a segmenter, which is only used in training, is
included in the parameters but not in the multiply-adds.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from swin_backbone.attention.sliding import sliding_naive
from swin_backbone.attention.window_plan import WindowPlan, pad_to_windows
from swin_backbone.backbones.mixer import SwinMixer
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.backbones.video import VideoSwinTransformer
from swin_backbone.errors import InputError
from swin_backbone.model_zoo.query_models import Part, deformable_attention, pixel_decoder, run_dino

BOX_ROIS = 1000
MASK_ROIS = 100
DETECTION_SHAPE = (800, 1280)
SEGMENTATION_CROP = 512
CLIP_FRAMES = 32
SEGMENTATION_ASPECT = 4
"""Aspect ratio (width / height) of the papers' images: 512x2048, and 640x2560 for models trained on 640x640."""


@dataclass(frozen=True)
class Complexity:
    """The cost of a network.

    Attributes:
        params: number of parameters.
        flops: number of multiply-adds for one image.
        shape: height and width of that image in pixels.
    """

    params: int
    flops: int
    shape: tuple[int, int]


def measure(config: Any, shape: tuple[int, int] | None = None) -> Complexity:
    """Count the network of a config.

    Args:
        config: an mmengine ``Config`` of a detector or segmenter.
        shape: height and width of the image in pixels; that of the papers (:func:`default_shape`) if None.

    Raises:
        InputError: if the shape is not positive, or the network has heads of an unknown kind.
    """
    shape = shape or default_shape(config)
    check_shape(shape)
    model = build_without_data(config)
    return count(model, partial(run_network, model), config.model.backbone.get('in_channels', 3), shape)


def measure_backbone(
    variant: str, version: int, shape: tuple[int, int], window: int | None = None, network: str = 'swin'
) -> Complexity:
    """Count a backbone without a toolkit.

    Args:
        variant: a named size.
        version: version of a Swin Transformer, 1 or 2.
        shape: height and width of the image in pixels.
        window: side of the windows in tokens; the variant's if None.
        network: 'swin', 'mixer', or 'video', which is counted for a clip of 32 frames.

    Raises:
        InputError: if there is no such variant, or the shape is not positive.
    """
    check_shape(shape)
    with torch.device('meta'):
        if network == 'mixer':
            model: SwinTransformer = SwinMixer(variant, window_size=window)
        elif network == 'video':
            model = VideoSwinTransformer(variant, window_size=(8, window or 7, window or 7))
        else:
            model = SwinTransformer(variant, version, window_size=window)
    count_as_published(model.eval())
    return count(model, model, 3, (CLIP_FRAMES, *shape) if network == 'video' else shape)


def global_attention(height: int, width: int, channels: int) -> int:
    """Return the multiply-adds of global attention on a map, including projections (Swin paper, equation 1)."""
    tokens = height * width
    return 4 * tokens * channels**2 + 2 * tokens**2 * channels


def attention_in_windows(height: int, width: int, channels: int, window: int) -> int:
    """Return the multiply-adds of attention in windows of ``window`` x ``window`` tokens (Swin paper, equation 2)."""
    tokens = height * width
    return 4 * tokens * channels**2 + 2 * window**2 * tokens * channels


def check_shape(shape: tuple[int, int]) -> None:
    """Raise InputError unless the height and the width are positive."""
    if min(shape) < 1:
        raise InputError(f'an image of {shape[0]}x{shape[1]} pixels is impossible: use height and width above 0.')


def count(model: nn.Module, run: Callable[[Tensor], Any], channels: int, shape: tuple[int, ...]) -> Complexity:
    """Count the parameters of ``model`` and the multiply-adds of ``run`` on an image ``[1, channels, *shape]``."""
    image = torch.empty(1, channels, *shape, device='meta')
    counter = FlopCounterMode(display=False)
    # The math backend splits fused attention into two matrix products, which the counter supports.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run(image)
    params = sum(p.numel() for p in model.parameters())
    return Complexity(params, counter.get_total_flops() // 2, (shape[-2], shape[-1]))


def default_shape(config: Any) -> tuple[int, int]:
    """Return the papers' image size: 800x1280 for a detector; crop height and 4 times that width for a segmenter."""
    if 'decode_head' not in config.model:
        return DETECTION_SHAPE
    size = (config.model.get('data_preprocessor') or {}).get('size') or (SEGMENTATION_CROP,)
    return size[0], SEGMENTATION_ASPECT * size[0]


def build_without_data(config: Any) -> Part:
    """Build the network of a config in evaluation mode on the meta device."""
    from mmengine.registry import MODELS, DefaultScope

    scope = DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet'))
    with scope, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the toolkits warn about their own defaults
        try:
            with torch.device('meta'):
                model = MODELS.build(copy.deepcopy(config.model)).eval()
        except RuntimeError:  # a module computes in its constructor, such as MMSegmentation's VisionTransformer
            model = MODELS.build(copy.deepcopy(config.model)).eval()
    model.to('meta')  # mmcv's deformable convolution creates its weights on the CPU despite the context above
    count_as_published(model)
    return model


def count_as_published(model: nn.Module) -> None:
    """Override ``forward`` of the layers in :data:`STAND_INS`."""
    for module in model.modules():
        stand_in = STAND_INS.get(f'{type(module).__module__.partition(".")[0]}.{type(module).__name__}')
        if stand_in is not None:
            module.forward = partial(stand_in, module)


def run_network(model: Part, image: Tensor) -> None:
    """Run the parts of a network that are used in testing on ``image`` ``[1, C, H, W]`` and empty regions.

    Raises:
        InputError: if the network has heads of an unknown kind.
    """
    kinds = {base.__name__ for base in type(model).__mro__}
    if 'EncoderDecoder' in kinds and type(model.decode_head).__name__ == 'Mask2FormerHead':
        model.decode_head(model.extract_feat(image), [])
    elif 'EncoderDecoder' in kinds and isinstance(model.decode_head, nn.Module):
        decode(stages(model.decode_head), model.extract_feat(image))
    elif 'Mask2Former' in kinds:
        model.panoptic_head(model.extract_feat(image), [])
    elif type(model).__name__ == 'DINO':
        run_dino(model, model.extract_feat(image))
    elif 'SingleStageDetector' in kinds:
        model.bbox_head(model.extract_feat(image))
    elif type(model).__name__ == 'CondInst':
        maps = model.extract_feat(image)
        model.bbox_head(maps)
        model.mask_head.mask_feature_head(maps)
    elif 'TwoStageDetector' in kinds and hasattr(model, 'roi_head'):
        run_two_stages(model, model.extract_feat(image))
    else:
        raise InputError(
            f'cannot count a {type(model).__name__}: use a one-stage or two-stage detector, DINO or Mask2Former of '
            'MMDetection, or an encoder-decoder of MMSegmentation.'
        )


def decode(heads: list[Part], maps: tuple[Tensor, ...]) -> None:
    """Run the decode heads of a segmenter; in a cascade, later heads also get the output of the previous one."""
    output = heads[0](maps)
    for head in heads[1:]:
        output = head(maps, output)


def run_two_stages(model: Part, maps: tuple[Tensor, ...]) -> None:
    """Run the RPN, and the heads on the paper's number of regions."""
    head = model.roi_head
    if type(head).__name__ == 'SparseRoIHead':
        proposals = model.rpn_head.num_proposals
        for stage in head.bbox_head:
            inputs = regions(proposals, stage.in_channels, head.bbox_roi_extractor[0])
            stage(inputs, inputs.new_empty(1, proposals, stage.in_channels))
        return
    model.rpn_head(maps)
    if getattr(head, 'with_semantic', False):
        head.semantic_head(maps)
    for stage, extractor in zip(stages(head.bbox_head), stages(head.bbox_roi_extractor), strict=True):
        stage(regions(BOX_ROIS, stage.in_channels, extractor))
    if head.with_mask:
        features: Tensor | None = None
        for stage, extractor in zip(stages(head.mask_head), stages(head.mask_roi_extractor), strict=True):
            inputs = regions(MASK_ROIS, stage.in_channels, extractor)
            if getattr(head, 'mask_info_flow', False):
                _, features = stage(inputs, features)
            else:
                stage(inputs)


def stages(part: Part) -> list[Part]:
    """Return the stages of a cascade, or a list with the part if it is not a cascade."""
    return list(part) if isinstance(part, nn.ModuleList) else [part]


def regions(count: int, channels: int, extractor: Part) -> Tensor:
    """Return empty features of ``count`` regions in the output shape of ``extractor``."""
    return torch.empty(count, channels, *extractor.roi_layers[0].output_size, device='meta')


def deform_conv(module: Part, x: Tensor, offset: Tensor) -> Tensor:
    """Count a deformable convolution as a regular one; its interpolation is not counted."""
    return F.conv2d(x, module.weight, None, module.stride, module.padding, module.dilation, module.groups)


def dynamic_conv(module: Part, parameters: Tensor, features: Tensor) -> Tensor:
    """Skip Sparse R-CNN's products with predicted weights, which the paper's numbers do not include."""
    module.dynamic_layer(parameters)
    return module.fc_layer(features.flatten(1))


def padded_attention(module: Part, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
    """Include the projection of padded tokens as in the original code and the papers; this package skips it."""
    padded = pad_to_windows(x, plan, None)
    out = type(module).forward(module, padded, plan.padded(), shifted)
    return out[:, : plan.height, : plan.width]


def gathered_attention(module: Part, x: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
    """Count sliding windows by their definition; the faster kernel computes additional products and masks them."""
    module.slide = sliding_naive
    return type(module).forward(module, x, plan, shifted)


STAND_INS: dict[str, Callable[..., Any]] = {
    'mmcv.DeformConv2d': deform_conv,
    'mmcv.MultiScaleDeformableAttention': deformable_attention,
    'mmdet.DynamicConv': dynamic_conv,
    'mmdet.MSDeformAttnPixelDecoder': pixel_decoder,
    'swin_backbone.WindowAttention': padded_attention,
    'swin_backbone.CosineWindowAttention': padded_attention,
    'swin_backbone.RelativeOnlyAttention': padded_attention,
    'swin_backbone.ContinuousRelativeOnlyAttention': padded_attention,
    'swin_backbone.SlidingAttention': gathered_attention,
    'swin_backbone.CosineSlidingAttention': gathered_attention,
}
"""Forward functions by package and class, for layers that cannot run on the meta device or that the papers count
differently."""
