"""Detection of modified layers (wrapped, hooked, quantized) and traced tensors, which need the slower path."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as calls

TOKENWISE = (nn.Linear, nn.GELU, nn.ReLU, nn.Dropout, nn.Identity)


def is_transformed() -> bool:
    """Return whether a ``torch.func`` transform or forward-mode differentiation is active.

    Handwritten backward passes support neither, and tensors created inside a transform must not be cached.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_ordinary(x: Tensor) -> bool:
    """Return whether ``x`` is a plain tensor on a CPU, and neither a tracer nor a transform is active."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()
    return x.device.type == 'cpu' and type(x) is Tensor and not traced


def is_plain(*modules: nn.Module) -> bool:
    """Return whether each module is a layer of PyTorch that is not wrapped, replaced, offloaded, quantized or hooked.

    Such a layer treats every token independently, and its parameters define what it computes. Any other module must be
    called once per forward pass, on the whole map.
    """
    return all(type(module) in TOKENWISE and not is_hooked(module) for module in modules)


def is_hooked(module: nn.Module) -> bool:
    """Return whether the module has hooks, or its ``forward`` is replaced on the instance."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(len(registered) > 0 for registered in hooks) or 'forward' in module.__dict__


def can_split_calls(*modules: nn.Module) -> bool:
    """Return whether ``modules`` may be called on parts of a map, or skipped: they are plain, without global hooks."""
    watched = calls._global_forward_hooks or calls._global_forward_pre_hooks
    return not (watched or calls._global_backward_hooks or calls._global_backward_pre_hooks) and is_plain(*modules)
