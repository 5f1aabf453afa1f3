"""Creation of backbones by the names of published weights."""

from typing import Any

from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.checkpoint import load_pretrained
from swin_backbone.checkpoint.find import unknown_name
from swin_backbone.checkpoint.published import WEIGHTS
from swin_backbone.errors import InputError


def create_model(name: str, pretrained: bool = False, **options: Any) -> SwinTransformer:
    """Build the backbone that a published file was trained for.

    Args:
        name: a key of :data:`swin_backbone.checkpoint.published.WEIGHTS`, such as 'swin_t_in1k'.
        pretrained: whether to download its weights, unless cached, and load them.
        options: options of :class:`swin_backbone.SwinTransformer`; they override those of the file.

    Raises:
        InputError: if the name or an option is unknown, or the weights cannot be downloaded.
    """
    if name not in WEIGHTS:
        raise InputError(unknown_name(name))
    known = WEIGHTS[name]
    trained: dict[str, Any] = dict(variant=known.variant, version=known.version, window_size=known.window)
    if known.version == 2:
        trained['pretrained_window_sizes'] = known.pretrained_window_sizes
    model = SwinTransformer(**{**trained, **options})
    if pretrained:
        model.load_report = load_pretrained(model, name)
    return model
