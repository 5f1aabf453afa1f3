"""Image classifiers: a backbone, global average pooling and a linear layer, built from any file of weights."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.backbones.mixer import SwinMixer
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.checkpoint.convert import Found, find_backbone
from swin_backbone.checkpoint.find import find_file
from swin_backbone.checkpoint.heads import CLASSIFIER, classifier_head
from swin_backbone.checkpoint.load import BUFFERS, load_found
from swin_backbone.checkpoint.network_kind import IMAGE, MIXER, VIDEO, variants_of, with_final_norm
from swin_backbone.checkpoint.report import Anatomy, LoadReport, anatomy_of
from swin_backbone.checkpoint.resize import EMBEDDING
from swin_backbone.classification.training_sizes import Trained, find_training_sizes
from swin_backbone.errors import InputError


class ImageClassifier(nn.Module):
    """A backbone whose last map, after its output norm, is averaged over all positions and classified.

    Args:
        backbone: the backbone.
        num_classes: number of classes.
        image_size: side of the images in pixels that it was trained with.

    Attributes:
        load_report: report of loaded weights; None for initial weights.
    """

    def __init__(self, backbone: SwinTransformer, num_classes: int = 1000, image_size: int = 224) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.num_features[-1], num_classes)
        self.image_size = image_size
        self.load_report: LoadReport | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits ``[B, num_classes]`` of images ``[B, in_channels, H, W]``."""
        return self.head(self.backbone(images)[-1].mean(dim=(2, 3)))


def load_classifier(
    source: str | os.PathLike[str] | Mapping[str, Any],
    window_size: int | None = None,
    pretrained_window_sizes: Sequence[int] | None = None,
    image_size: int | None = None,
) -> ImageClassifier:
    """Build a classifier from a checkpoint, with the window handling of the original classification code.

    Sizes, version and number of classes are read from the weights. Other values come from the arguments, or from the
    published name, a file name in the style of the authors' files, or ``config.json`` next to the weights.

    Args:
        source: a checkpoint of Swin Transformer V1 or V2 or of Swin-Mixer, in any layout, with a classification head;
            see :func:`swin_backbone.load_pretrained`.
        window_size: side of a window in tokens; needed for V2 if it is unknown.
        pretrained_window_sizes: V2: the window per stage that the position bias was trained with, if it is unknown; by
            default that of the stage.
        image_size: side of the images that it was trained with; used only for preprocessing.

    Returns:
        The classifier in evaluation mode.

    Raises:
        InputError: if the file cannot be read or is not a classifier, its windows are unknown, or it has missing or
            unexpected weights.
    """
    path = None
    if isinstance(source, Mapping):
        contents, label = source, 'the state dict'
    else:
        from swin_backbone.checkpoint.read import read_checkpoint  # imported here, as it needs numpy

        path = find_file(source)
        contents, label = read_checkpoint(path), str(path)
    found = find_backbone(contents, label)
    anatomy = anatomy_of(found.state)
    if anatomy.network == VIDEO:
        raise InputError(
            f'{label} is a video classifier: load it into swin_backbone.backbones.video_classifier.ClipClassifier.'
        )
    head = classifier_head(found.state, label)
    if 0 in anatomy.num_heads:
        raise InputError(
            f'cannot determine the attention heads of each stage in {label}: it is incomplete, or has no relative '
            'position bias; in that case build it with swin_backbone.classification.classifier.ImageClassifier.'
        )
    windows = ((window_size, window_size),) * len(anatomy.depths) if window_size else ()
    given = Trained(image_size or 0, windows, tuple(pretrained_window_sizes or ()))
    name = label if isinstance(source, Mapping) else os.fspath(source)
    trained = find_training_sizes(found.state, anatomy, name, path, given)
    backbone = build_backbone(found, anatomy, trained)
    classifier = ImageClassifier(backbone, len(head['weight']), trained.image_size)
    state = {name: value for name, value in with_final_norm(found.state).items() if name not in CLASSIFIER}
    report = load_found(backbone, replace(found, state=state), label)
    unused = [name for name in report.dropped if name.rpartition('.')[2] not in BUFFERS]
    if unused or report.new:
        problem = f'weights that Swin classifiers do not have ({", ".join(unused[:5])})' if unused else 'no final norm'
        raise InputError(f'{label} has {problem}: it is not a classifier, or belongs to another network.')
    with torch.no_grad():
        for kind, parameter in classifier.head.named_parameters():
            parameter.copy_(head[kind])
    loaded, total = (*report.loaded, *CLASSIFIER), report.total + len(CLASSIFIER)
    classifier.load_report = replace(report, loaded=loaded, total=total)
    return classifier.eval()


def build_backbone(found: Found, anatomy: Anatomy, trained: Trained) -> SwinTransformer:
    """Build the backbone of a classifier with initial weights; its only output is the last map."""
    sizes: dict[str, Any] = dict(
        embed_dim=anatomy.embed_dim,
        depths=anatomy.depths,
        num_heads=anatomy.num_heads,
        window_size=trained.windows,
        mlp_ratio=anatomy.mlp_ratio,
        patch_size=anatomy.patch_size,
        in_channels=found.state['patch_embed.proj.weight'].shape[1],
        patch_norm=anatomy.patch_norm,
        drop_path_rate=0.0,
        out_indices=(len(anatomy.depths) - 1,),
    )
    if anatomy.network == MIXER:
        return SwinMixer(None, **sizes)
    known = variants_of(IMAGE, 2).items() if anatomy.main_norm else ()
    encodings = {(True, True): 'absolute+relative', (True, False): 'absolute', (False, True): 'relative'}
    return SwinTransformer(
        next((name for name, variant in known if variant.main_norm_every), None),
        anatomy.version,
        **sizes,
        qkv_bias=anatomy.qkv_bias,
        position_encoding=encodings.get((EMBEDDING in found.state, anatomy.relative), 'none'),
        pretrain_img_size=trained.image_size,
        pretrained_window_sizes=trained.pretrained,
        small_maps='shrink',
    )
