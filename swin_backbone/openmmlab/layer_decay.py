"""Layer-wise learning-rate decay."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from swin_backbone.errors import InputError
from swin_backbone.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with each learning rate multiplied by ``decay_rate ** (number of layers above)``.

    The toolkits' own layer-decay constructors support only ConvNeXt, BEiT and MAE. Other options of ``paramwise_cfg``,
    such as ``custom_keys``, work as usual. In a config::

        optim_wrapper = dict(
            constructor='swin_backbone.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(decay_rate=0.95))

    Args:
        optim_wrapper_cfg: see mmengine's constructor.
        paramwise_cfg: see mmengine's constructor; also has ``decay_rate`` in (0, 1].

    Raises:
        InputError: if there is no ``decay_rate``, or the backbone has no method ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        self.decay_rate = (paramwise_cfg or {}).get('decay_rate')
        if self.decay_rate is None or not 0 < self.decay_rate <= 1:
            raise InputError(f'paramwise_cfg.decay_rate must be above 0 and at most 1, got {self.decay_rate}: set it.')
        super().__init__(optim_wrapper_cfg, paramwise_cfg)

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', is_dcn_module: Any = None
    ) -> None:
        """Collect one group per parameter like mmengine, then scale their learning rates."""
        super().add_params(params, module, prefix=prefix, is_dcn_module=is_dcn_module)
        if prefix:  # mmengine calls this recursively for every submodule; the whole model is last
            return
        backbone: Any = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise InputError(
                'layer-wise decay needs a backbone with get_layer_depth: use swin_backbone.SwinTransformer.'
            )
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        for group in params:
            depth, depths = backbone.get_layer_depth(names[id(group['params'][0])], 'backbone.')
            group['lr'] = group.get('lr', self.base_lr) * self.decay_rate ** (depths - 1 - depth)
