"""Which tensors kernels of this package may serve, and which submodules they may call on parts of a map, or read."""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as calls

TOKENWISE = (nn.Linear, nn.GELU, nn.ReLU, nn.Dropout, nn.Identity)


def is_transformed() -> bool:
    """Whether ``torch.func`` or forward-mode differentiation follows what is computed.

    A backward pass that is written out serves neither, and a constant that is built meanwhile may belong to them.
    """
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_ordinary(x: Tensor) -> bool:
    """Whether ``x`` is a plain tensor on a CPU that neither a tracer nor a transform follows."""
    followed = torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed()
    return x.device.type == 'cpu' and type(x) is Tensor and not followed


def is_plain(*modules: nn.Module) -> bool:
    """Whether each module is a layer of PyTorch that nobody wrapped, replaced, offloaded, quantized or hooked.

    Such a layer treats every token by itself, and its parameters tell what it computes. Of any other module only this
    is known: the model's forward pass calls it once, on the whole map.
    """
    return all(type(module) in TOKENWISE and not is_hooked(module) for module in modules)


def is_hooked(module: nn.Module) -> bool:
    """Whether calls of the module are hooked, or its ``forward`` is replaced on the instance."""
    hooks = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(len(registered) > 0 for registered in hooks) or 'forward' in module.__dict__


def can_split_calls(*modules: nn.Module) -> bool:
    """Whether calls of ``modules`` may be divided or left out: they are plain, and no hook watches all modules."""
    watched = calls._global_forward_hooks or calls._global_forward_pre_hooks
    return not (watched or calls._global_backward_hooks or calls._global_backward_pre_hooks) and is_plain(*modules)
