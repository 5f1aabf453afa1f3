"""Submodules that may be called on parts of a map, or read instead of called."""

from torch import nn

TOKENWISE = (nn.Linear, nn.GELU, nn.Dropout, nn.Identity)


def is_plain(*modules: nn.Module) -> bool:
    """Whether each module is a layer of PyTorch that nobody wrapped, replaced, offloaded, quantized or hooked.

    Such a layer treats every token by itself, and its parameters tell what it computes. Of any other module only this
    is known: the model's forward pass calls it once, on the whole map.
    """
    return all(type(module) in TOKENWISE and not is_observed(module) for module in modules)


def is_observed(module: nn.Module) -> bool:
    """Whether calls of the module are hooked, or its ``forward`` is replaced on the instance."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(len(registered) > 0 for registered in hooks) or 'forward' in module.__dict__
