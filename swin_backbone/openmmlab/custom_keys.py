"""Say so when ``paramwise_cfg.custom_keys`` of an optimizer name parameters as the toolkits call them."""

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
"""Parameters that only some backbones have: configs name them for all."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name='DefaultOptimWrapperConstructor', force=True)
class CheckedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's own constructor, which warns of custom keys that match no parameter of a model with our backbone."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of ``model``."""
        keys = self.paramwise_cfg.get('custom_keys', {})
        warning = warn_of(unmatched(keys, getattr(model, 'module', model)))
        if warning:
            print_log(warning, 'current', logging.WARNING)
        return super().__call__(model)


def unmatched(keys: Iterable[str], model: nn.Module) -> dict[str, bool]:
    """The keys that match no parameter, with whether they would match the toolkits' names of our backbones.

    Empty for models without :class:`swin_backbone.SwinTransformer`, or whose Swin has the toolkits' names.
    """
    paths = [
        f'{path}.' if path else ''
        for path, module in model.named_modules()
        if isinstance(module, SwinTransformer) and not isinstance(module, MMSwinTransformer)
    ]
    names = [name for name, _ in model.named_parameters()] if paths else []
    theirs = list(toolkit_names(names, paths))
    return {
        key: any(key in name for name in theirs)
        for key in keys
        if names and not any(key in name for name in names) and not any(word in key for word in OPTIONAL)
    }


def toolkit_names(names: Sequence[str], paths: Sequence[str]) -> Iterator[str]:
    """What the toolkits call the parameters below ``paths``."""
    for path in paths:
        for name in names:
            if name.startswith(path):
                yield path + rename(name.removeprefix(path), MMDET, back=True)


def warn_of(keys: dict[str, bool]) -> str:
    """The warning about :func:`unmatched` keys; empty if there are none."""
    if not keys:
        return ''
    listed = ', '.join(list(keys)[:4]) + (f' and {len(keys) - 4} more' if len(keys) > 4 else '')
    theirs = [key for key, matches in keys.items() if matches]
    remedy = 'correct or remove them'
    if theirs:
        ours = rename_key(theirs[0])
        remedy = (
            "these are the toolkits' names: use type='swin_backbone.MMSwinTransformer', whose parameters have them, or "
            f'write them as {ours}'
        )
    return f'custom_keys of the optimizer match no parameter: {listed}; {remedy}.'


def rename_key(key: str) -> str:
    """A key with the toolkits' names of modules as one with ours."""
    for theirs, ours in (('stages', 'layers'), ('projection', 'proj'), ('w_msa.', ''), ('ffn.layers', 'mlp')):
        key = key.replace(theirs, ours)
    return key
