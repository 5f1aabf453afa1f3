"""Feature energy and window attention of a Swin backbone on an image; importing it needs only torch."""

from swin_backbone.inspection.features import (
    AttentionView,
    attention_of,
    attentions_of,
    feature_energies,
    feature_energy,
    reshape_transform,
    to_pixels,
)

__all__ = [
    'AttentionView',
    'attention_of',
    'attentions_of',
    'feature_energies',
    'feature_energy',
    'reshape_transform',
    'to_pixels',
]
