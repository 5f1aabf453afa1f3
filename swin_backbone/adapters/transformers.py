"""Adapter for the models of Transformers; importing this module registers the backbones with AutoBackbone.

The config of a backbone contains every option that it was built with, so that `from_pretrained` can rebuild it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.generic import can_return_tuple

from swin_backbone.adapters import check_backbone
from swin_backbone.backbones.mixer import SwinMixer
from swin_backbone.backbones.options import BackboneOptions
from swin_backbone.backbones.swin import SwinTransformer, reset_module
from swin_backbone.errors import InputError

NETWORKS: dict[str, type[SwinTransformer]] = {kind.__name__: kind for kind in (SwinTransformer, SwinMixer)}
"""The classes that are fully described by their options."""


class SwinBackboneConfig(BackboneConfigMixin, PreTrainedConfig):
    """The config of a backbone; create it with :func:`describe`.

    Args:
        network: a key of :data:`NETWORKS`.
        options: fields of :class:`swin_backbone.backbones.options.BackboneOptions`.
        patch_norm: whether a norm follows the patch embedding.
    """

    model_type = 'swin_backbone'

    network: str = 'SwinTransformer'
    options: dict[str, Any] | None = None
    patch_norm: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Set the names of stages, and the stages whose maps are returned, by ``out_features`` or ``out_indices``."""
        if self.options is None:
            with torch.device('meta'):
                self.options = asdict(SwinTransformer().options)
        self.stage_names = [f'stage{number + 1}' for number in range(len(self.options['depths']))]
        features, indices = kwargs.pop('out_features', None), kwargs.pop('out_indices', None)
        if features is None and indices is None:
            indices = self.options['out_indices']
        self.set_output_features_output_indices(features, None if indices is None else list(indices))
        super().__post_init__(**kwargs)

    def build(self) -> SwinTransformer:
        """Build the backbone with initial weights."""
        stages = sorted(index % len(self.stage_names) for index in self.out_indices)
        values = {name: as_tuples(value) for name, value in (self.options or {}).items()}
        backbone = NETWORKS[self.network].__new__(NETWORKS[self.network])
        nn.Module.__init__(backbone)
        backbone.build(BackboneOptions(**{**values, 'out_indices': tuple(stages)}), self.patch_norm, None)
        return backbone


def as_tuples(value: Any) -> Any:
    """Convert the lists of a JSON file back to tuples, recursively."""
    return tuple(map(as_tuples, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


class SwinBackboneModel(BackboneMixin, PreTrainedModel):
    """A backbone that Transformers' models build from their ``backbone_config``."""

    config: SwinBackboneConfig
    config_class = SwinBackboneConfig
    main_input_name = 'pixel_values'
    has_attentions = False

    def __init__(self, config: SwinBackboneConfig) -> None:
        super().__init__(config)
        self.network = config.build()
        self.network.is_uninitialized = False  # Transformers initialises models that it creates on 'meta'
        self.num_features = [self.network.options.channels(index) for index in range(len(config.stage_names))]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a module of the backbone."""
        reset_module(module)

    @can_return_tuple
    def forward(self, pixel_values: Tensor, output_hidden_states: bool | None = None, **_: Any) -> BackboneOutput:
        """Compute the maps of images ``[B, 3, H, W]``.

        Raises:
            InputError: if hidden states are requested.
        """
        if output_hidden_states:
            raise InputError('this backbone returns only feature maps: leave output_hidden_states out.')
        return BackboneOutput(feature_maps=self.network(pixel_values))


def describe(backbone: SwinTransformer) -> SwinBackboneConfig:
    """Create the ``backbone_config`` of a backbone.

    Raises:
        InputError: if its class is not in :data:`NETWORKS`.
    """
    check_backbone(backbone)
    name = type(backbone).__name__
    if NETWORKS.get(name) is not type(backbone):
        raise InputError(
            f'a backbone_config supports {" and ".join(NETWORKS)}, got {name}: build one of them, and load the weights '
            'with load_pretrained.'
        )
    patch_norm = not isinstance(backbone.patch_embed.norm, nn.Identity)
    return SwinBackboneConfig(network=name, options=asdict(backbone.options), patch_norm=patch_norm)


def put_backbone(model: nn.Module, backbone: SwinTransformer) -> None:
    """Replace the backbone of a model of Transformers by this one with its weights.

    Raises:
        InputError: if the model has no backbone of this package, or one with other options.
    """
    places = [module for module in model.modules() if isinstance(module, SwinBackboneModel)]
    if not places:
        raise InputError(
            f'{type(model).__name__} has no backbone of this package: give backbone_config=describe(backbone) to its '
            'config.'
        )
    if any(place.network.options != backbone.options for place in places):
        raise InputError(
            f'the backbone of {type(model).__name__} was built with other options: give '
            'backbone_config=describe(backbone) of this backbone to its config.'
        )
    for place in places:
        place.network = backbone


AutoConfig.register(SwinBackboneConfig.model_type, SwinBackboneConfig)
AutoBackbone.register(SwinBackboneConfig, SwinBackboneModel)
