"""Warning about ``paramwise_cfg.custom_keys`` that match no parameter of a model with our backbone."""

import logging
from collections.abc import Iterable, Iterator, Sequence

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from swin_backbone.backbones.mm_swin import MMSwinTransformer
from swin_backbone.backbones.swin import SwinTransformer
from swin_backbone.checkpoint.layouts import MMDET, rename

OPTIONAL = ('absolute_pos_embed', 'relative_position_bias_table', 'logit_scale', 'cpb_mlp')
"""Parameters that only some backbones have; configs may list them for all."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name='DefaultOptimWrapperConstructor', force=True)
class CheckedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, with a warning about custom keys that match no parameter of a model with our backbone."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of ``model``."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        warning = unmatched_warning(unmatched_keys(keys, getattr(model, 'module', model)))
        if warning:
            print_log(warning, 'current', logging.WARNING)
        return super().__call__(model)


def unmatched_keys(keys: Iterable[str], model: nn.Module) -> dict[str, bool]:
    """Return keys that match no parameter, and whether they would match the toolkits' parameter names.

    The result is empty for models without :class:`swin_backbone.SwinTransformer`, or with MMSwinTransformer.
    """
    paths = [
        f'{path}.' if path else ''
        for path, module in model.named_modules()
        if isinstance(module, SwinTransformer) and not isinstance(module, MMSwinTransformer)
    ]
    names = [name for name, _ in model.named_parameters()] if paths else []
    renamed = list(toolkit_names(names, paths))
    return {
        key: any(key in name for name in renamed)
        for key in keys
        if names and not any(key in name for name in names) and not any(word in key for word in OPTIONAL)
    }


def toolkit_names(names: Sequence[str], paths: Sequence[str]) -> Iterator[str]:
    """Yield the toolkits' names of the parameters below ``paths``."""
    for path in paths:
        for name in names:
            if name.startswith(path):
                yield path + rename(name.removeprefix(path), MMDET, back=True)


def unmatched_warning(keys: dict[str, bool]) -> str:
    """Return the warning about unmatched keys; empty if there are none."""
    if not keys:
        return ''
    listed = ', '.join(list(keys)[:4]) + (f' and {len(keys) - 4} more' if len(keys) > 4 else '')
    toolkit_matches = [key for key, matches in keys.items() if matches]
    remedy = 'correct or remove them'
    if toolkit_matches:
        ours = rename_key(toolkit_matches[0])
        remedy = (
            "these are names of the toolkits' backbone: use type='swin_backbone.MMSwinTransformer', whose parameters "
            f'have them, or write them as {ours}'
        )
    return f'custom_keys of the optimizer match no parameter: {listed}; {remedy}.'


def rename_key(key: str) -> str:
    """Replace the toolkits' module names in a key by ours."""
    for original, ours in (('stages', 'layers'), ('projection', 'proj'), ('w_msa.', ''), ('ffn.layers', 'mlp')):
        key = key.replace(original, ours)
    return key
