"""Published weights: names in this package, URLs, training data and published scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swin_backbone.errors import InputError

RELEASES = 'https://github.com/SwinTransformer/storage/releases/download'
MIT = 'MIT (microsoft/Swin-Transformer)'
VIDEO_LICENCE = 'Apache-2.0 (SwinTransformer/Video-Swin-Transformer)'
APACHE = 'Apache-2.0 (the original detection and segmentation code)'


@dataclass(frozen=True)
class Weights:
    """One published file.

    Attributes:
        release: release and file name under :data:`RELEASES`.
        variant: a variant of the class ``network``.
        data: the training data, in order.
        image_size: side of the (last) training images in pixels; 0 for detectors, which are trained at many sizes.
        window: side of a window in tokens.
        version: 1 or 2.
        pretrained_window_sizes: V2: the argument to build the backbone with if its window differs.
        licence: the licence of the file.
        size: size of the file in bytes; 0 if unknown.
        digest: algorithm and hexadecimal hash of the file; empty if unknown.
        config: the installed config of the whole model; empty for a backbone, and for a model without a config here.
        scores: published scores of the whole model at one scale in percent, by their names in ``summary.json``, on
            val2017 of COCO or the validation images of ADE20K.
        tta_scores: the same at several scales with flips, if published.
        network: the class in this package for the weights.
    """

    release: str
    variant: str
    data: str = 'ImageNet-1K'
    image_size: int = 224
    window: int = 7
    version: int = 1
    pretrained_window_sizes: tuple[int, ...] = (0, 0, 0, 0)
    licence: str = MIT
    size: int = 0
    digest: str = ''
    config: str = ''
    scores: Mapping[str, float] = field(default_factory=dict)
    tta_scores: Mapping[str, float] = field(default_factory=dict)
    network: str = 'SwinTransformer'

    @property
    def url(self) -> str:
        """URL of the file."""
        return f'{RELEASES}/{self.release}'

    def fractions(self, views: int) -> dict[str, float]:
        """Return the published scores as fractions of 1; ``scores`` for one view of each image, else ``tta_scores``."""
        scores = self.scores if views == 1 else self.tta_scores
        return {name: round(score / 100, 6) for name, score in scores.items()}

    @property
    def images(self) -> int:
        """Number of images on which :attr:`scores` were measured."""
        return VALIDATION_IMAGES[self.data.rpartition(', ')[2]]


VALIDATION_IMAGES = {'COCO': 5000, 'ADE20K': 2000}


def coco(
    release: str, variant: str, config: str, box: float, mask: float | None = None, start: str = 'ImageNet-1K'
) -> Weights:
    """Return the entry of a detector of the original detection code with its box and mask AP."""
    scores = {'bbox_mAP': box} if mask is None else {'bbox_mAP': box, 'segm_mAP': mask}
    return Weights(release, variant, f'{start}, COCO', 0, licence=APACHE, config=config, scores=scores)


def ade(release: str, variant: str, config: str, single: float, several: float, start: str = 'ImageNet-1K') -> Weights:
    """Return the entry of a UPerNet of the original segmentation code with its mIoU at one and at several scales."""
    scores, tta_scores = {'mIoU': single}, {'mIoU': several}
    return Weights(
        release, variant, f'{start}, ADE20K', 512, licence=APACHE, config=config, scores=scores, tta_scores=tta_scores
    )


def mixer(file: str, variant: str, image_size: int, window: int) -> Weights:
    """Return the entry of a Swin-Mixer classifier."""
    return Weights(f'v1.0.5/{file}', variant, image_size=image_size, window=window, network='SwinMixer')


def video(file: str, variant: str, data: str) -> Weights:
    """Return the entry of a Video Swin Transformer classifier."""
    return Weights(f'v1.0.4/{file}', variant, data, licence=VIDEO_LICENCE, network='VideoSwinTransformer')


def released_for(config: str) -> str:
    """Return the name of the weights that the authors released for a config, given by name or path.

    Raises:
        InputError: if there are none.
    """
    name = Path(config).stem
    known = [published for published, weights in WEIGHTS.items() if weights.config == published]
    if name not in known:
        raise InputError(f'the authors released no whole model for {name}; they did for {", ".join(known)}.')
    return name


SWIN_T_DIGEST = (
    'sha384:210021216e1f205617d885836b1ac59d725b8c41dbff8dc4c513e838911436b0b75e06529737e472d3167519a7c1a6ad'
)
IN1K, IN22K, K400 = 'ImageNet-1K', 'ImageNet-22K', 'Kinetics-400'
TUNED = 'ImageNet-22K, ImageNet-1K'
MOBY = 'ImageNet-1K without labels (MoBY)'
W8, W16, W12 = (8, 8, 8, 8), (16, 16, 16, 8), (12, 12, 12, 6)

# Sources: model hub of microsoft/Swin-Transformer and README files of the original detection and segmentation code.
# Windows of V2's last stages are the actual ones: a window larger than the feature map was reduced to its size.
WEIGHTS: dict[str, Weights] = {
    'swin_t_in1k': Weights('v1.0.0/swin_tiny_patch4_window7_224.pth', 'tiny', size=114_342_173, digest=SWIN_T_DIGEST),
    'swin_s_in1k': Weights('v1.0.0/swin_small_patch4_window7_224.pth', 'small'),
    'swin_b_in1k': Weights('v1.0.0/swin_base_patch4_window7_224.pth', 'base'),
    'swin_b_384_in1k': Weights('v1.0.0/swin_base_patch4_window12_384.pth', 'base', image_size=384, window=12),
    'swin_t_in22k': Weights('v1.0.8/swin_tiny_patch4_window7_224_22k.pth', 'tiny', IN22K),
    'swin_s_in22k': Weights('v1.0.8/swin_small_patch4_window7_224_22k.pth', 'small', IN22K),
    'swin_b_in22k': Weights('v1.0.0/swin_base_patch4_window7_224_22k.pth', 'base', IN22K),
    'swin_b_384_in22k': Weights('v1.0.0/swin_base_patch4_window12_384_22k.pth', 'base', IN22K, 384, 12),
    'swin_l_in22k': Weights('v1.0.0/swin_large_patch4_window7_224_22k.pth', 'large', IN22K),
    'swin_l_384_in22k': Weights('v1.0.0/swin_large_patch4_window12_384_22k.pth', 'large', IN22K, 384, 12),
    'swin_t_in22k_ft_in1k': Weights('v1.0.8/swin_tiny_patch4_window7_224_22kto1k_finetune.pth', 'tiny', TUNED),
    'swin_s_in22k_ft_in1k': Weights('v1.0.8/swin_small_patch4_window7_224_22kto1k_finetune.pth', 'small', TUNED),
    'swin_b_in22k_ft_in1k': Weights('v1.0.0/swin_base_patch4_window7_224_22kto1k.pth', 'base', TUNED),
    'swin_b_384_in22k_ft_in1k': Weights('v1.0.0/swin_base_patch4_window12_384_22kto1k.pth', 'base', TUNED, 384, 12),
    'swin_l_in22k_ft_in1k': Weights('v1.0.0/swin_large_patch4_window7_224_22kto1k.pth', 'large', TUNED),
    'swin_l_384_in22k_ft_in1k': Weights('v1.0.0/swin_large_patch4_window12_384_22kto1k.pth', 'large', TUNED, 384, 12),
    'swin_t_c24_in1k': Weights('v1.0.5/swin_tiny_c24_patch4_window8_256.pth', 'tiny-c24', image_size=256, window=8),
    'swin_mixer_t_c24_in1k': mixer('swin_mlp_tiny_c24_patch4_window8_256.pth', 'tiny_c24', 256, 8),
    'swin_mixer_t_c12_in1k': mixer('swin_mlp_tiny_c12_patch4_window8_256.pth', 'tiny_c12', 256, 8),
    'swin_mixer_t_c6_in1k': mixer('swin_mlp_tiny_c6_patch4_window8_256.pth', 'tiny_c6', 256, 8),
    'swin_mixer_b_in1k': mixer('swin_mlp_base_patch4_window7_224.pth', 'base', 224, 7),
    'video_swin_t_k400': video('swin_tiny_patch244_window877_kinetics400_1k.pth', 'tiny', f'{IN1K}, {K400}'),
    'video_swin_s_k400': video('swin_small_patch244_window877_kinetics400_1k.pth', 'small', f'{IN1K}, {K400}'),
    'video_swin_b_k400': video('swin_base_patch244_window877_kinetics400_1k.pth', 'base', f'{IN1K}, {K400}'),
    'video_swin_b_in22k_k400': video('swin_base_patch244_window877_kinetics400_22k.pth', 'base', f'{IN22K}, {K400}'),
    'video_swin_b_in22k_k600': video(
        'swin_base_patch244_window877_kinetics600_22k.pth', 'base', f'{IN22K}, Kinetics-600'
    ),
    'video_swin_b_ssv2': video(
        'swin_base_patch244_window1677_sthv2.pth', 'base', f'{IN22K}, {K400}, Something-Something v2'
    ),
    'moby_swin_t_in1k': Weights('v1.0.3/moby_swin_t_300ep_pretrained.pth', 'tiny', MOBY),
    'swinv2_t_in1k_w8': Weights('v2.0.0/swinv2_tiny_patch4_window8_256.pth', 'tiny', 'ImageNet-1K', 256, 8, 2, W8),
    'swinv2_s_in1k_w8': Weights('v2.0.0/swinv2_small_patch4_window8_256.pth', 'small', 'ImageNet-1K', 256, 8, 2, W8),
    'swinv2_b_in1k_w8': Weights('v2.0.0/swinv2_base_patch4_window8_256.pth', 'base', 'ImageNet-1K', 256, 8, 2, W8),
    'swinv2_t_in1k_w16': Weights('v2.0.0/swinv2_tiny_patch4_window16_256.pth', 'tiny', 'ImageNet-1K', 256, 16, 2, W16),
    'swinv2_s_in1k_w16': Weights(
        'v2.0.0/swinv2_small_patch4_window16_256.pth', 'small', 'ImageNet-1K', 256, 16, 2, W16
    ),
    'swinv2_b_in1k_w16': Weights('v2.0.0/swinv2_base_patch4_window16_256.pth', 'base', 'ImageNet-1K', 256, 16, 2, W16),
    'swinv2_b_in22k_w12': Weights('v2.0.0/swinv2_base_patch4_window12_192_22k.pth', 'base', IN22K, 192, 12, 2, W12),
    'swinv2_l_in22k_w12': Weights('v2.0.0/swinv2_large_patch4_window12_192_22k.pth', 'large', IN22K, 192, 12, 2, W12),
    'swinv2_b_in22k_ft_in1k_w16': Weights(
        'v2.0.0/swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth', 'base', TUNED, 256, 16, 2, W12
    ),
    'swinv2_b_in22k_ft_in1k_w24': Weights(
        'v2.0.0/swinv2_base_patch4_window12to24_192to384_22kto1k_ft.pth', 'base', TUNED, 384, 24, 2, W12
    ),
    'swinv2_l_in22k_ft_in1k_w16': Weights(
        'v2.0.0/swinv2_large_patch4_window12to16_192to256_22kto1k_ft.pth', 'large', TUNED, 256, 16, 2, W12
    ),
    'swinv2_l_in22k_ft_in1k_w24': Weights(
        'v2.0.0/swinv2_large_patch4_window12to24_192to384_22kto1k_ft.pth', 'large', TUNED, 384, 24, 2, W12
    ),
    # Scores are from the tables in the README files of the original detection and segmentation code.
    'mask_rcnn_swin_t_1x': coco(
        'v1.0.3/mask_rcnn_swin_tiny_patch4_window7_1x.pth', 'tiny', 'mask_rcnn_swin_t_1x', 43.7, 39.8
    ),
    'mask_rcnn_swin_t_3x': coco(
        'v1.0.2/mask_rcnn_swin_tiny_patch4_window7.pth', 'tiny', 'mask_rcnn_swin_t_3x', 46.0, 41.6
    ),
    'mask_rcnn_swin_s_3x': coco(
        'v1.0.2/mask_rcnn_swin_small_patch4_window7.pth', 'small', 'mask_rcnn_swin_s_3x', 48.5, 43.3
    ),
    'cascade_swin_t_1x': coco(
        'v1.0.3/cascade_mask_rcnn_swin_tiny_patch4_window7_1x.pth', 'tiny', 'cascade_swin_t_1x', 48.1, 41.7
    ),
    'cascade_swin_t_3x': coco(
        'v1.0.2/cascade_mask_rcnn_swin_tiny_patch4_window7.pth', 'tiny', 'cascade_swin_t_3x', 50.4, 43.7
    ),
    'cascade_swin_s_3x': coco(
        'v1.0.2/cascade_mask_rcnn_swin_small_patch4_window7.pth', 'small', 'cascade_swin_s_3x', 51.9, 45.0
    ),
    'cascade_swin_b_3x': coco(
        'v1.0.2/cascade_mask_rcnn_swin_base_patch4_window7.pth', 'base', 'cascade_swin_b_3x', 51.9, 45.0
    ),
    'reppoints_v2_swin_t_3x': coco(
        'v1.0.9/reppointsv2_swin_tiny_patch4_window7_3x.pth', 'tiny', 'reppoints_v2_swin_t_3x', 50.0
    ),
    'mask_reppoints_v2_swin_t_3x': coco(
        'v1.0.9/mask_reppointsv2_swin_tiny_patch4_window7_3x.pth', 'tiny', '', 50.4, 43.8
    ),
    'moby_mask_rcnn_swin_t_1x': coco(
        'v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_1x.pth', 'tiny', 'mask_rcnn_swin_t_1x', 43.6, 39.6, MOBY
    ),
    'moby_mask_rcnn_swin_t_3x': coco(
        'v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_3x.pth', 'tiny', 'mask_rcnn_swin_t_3x', 46.0, 41.7, MOBY
    ),
    'moby_cascade_swin_t_1x': coco(
        'v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_1x.pth', 'tiny', 'cascade_swin_t_1x', 48.1, 41.5, MOBY
    ),
    'moby_cascade_swin_t_3x': coco(
        'v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_3x.pth', 'tiny', 'cascade_swin_t_3x', 50.2, 43.5, MOBY
    ),
    'upernet_swin_t_160k': ade(
        'v1.0.1/upernet_swin_tiny_patch4_window7_512x512.pth', 'tiny', 'upernet_swin_t_160k', 44.51, 45.81
    ),
    'upernet_swin_s_160k': ade(
        'v1.0.1/upernet_swin_small_patch4_window7_512x512.pth', 'small', 'upernet_swin_s_160k', 47.64, 49.47
    ),
    'upernet_swin_b_160k': ade(
        'v1.0.1/upernet_swin_base_patch4_window7_512x512.pth', 'base', 'upernet_swin_b_160k', 48.13, 49.72
    ),
    'moby_upernet_swin_t_160k': ade(
        'v1.0.3/moby_upernet_swin_tiny_patch4_window7_512x512.pth', 'tiny', 'upernet_swin_t_160k', 44.06, 45.58, MOBY
    ),
}
