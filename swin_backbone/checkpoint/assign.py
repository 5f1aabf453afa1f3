"""Put values into the parameters of a model: in place, in their shards, or in place of parameters on 'meta'."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.attention.position_encoding import TABLE_STD, relative_position_index
from swin_backbone.checkpoint.output_norms import is_output_norm
from swin_backbone.checkpoint.parameter_names import modules_of, parameters_of
from swin_backbone.errors import InputError


def assign(model: nn.Module, values: Mapping[str, Tensor], new: Iterable[str]) -> None:
    """Give the parameters of ``model`` the ``values`` of these names, or leave all of them as they were.

    A parameter without memory (on 'meta') becomes a new one, on the device of its value. Then ``new`` ones, which have
    no value, get their initial value, too, and indices of bias tables theirs.

    Raises:
        InputError: a value cannot be copied, or a part of the model would be left without memory.
    """
    parameters = parameters_of(model)
    values, indices = dict(values), {}
    if not any(value.is_meta for value in values.values()):  # values without memory only have shapes
        device = next((value.device for value in values.values()), torch.device('cpu'))
        missing = [name for name in new if parameters[name].is_meta]
        values.update({name: initial_value(name, parameters[name].shape, device) for name in missing})
        indices = indices_on_meta(model, device)
        check_memory(model, values, indices)
    ready = {name: like(parameters[name], value, name) for name, value in values.items()}
    modules = modules_of(model)
    with torch.no_grad():
        for name, value in ready.items():
            parameter = parameters[name]
            if parameter.is_meta and not value.is_meta:
                owner, _, leaf = name.rpartition('.')
                setattr(modules[owner], leaf, nn.Parameter(value, requires_grad=parameter.requires_grad))
            else:
                parameter.copy_(value)
    for name, index in indices.items():
        owner, _, leaf = name.rpartition('.')
        setattr(model.get_submodule(owner), leaf, index)


def indices_on_meta(model: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The indices of bias tables that have no memory, by the names of their buffers: they follow from the windows."""
    found = {}
    for name, buffer in model.named_buffers():
        if buffer.is_meta and name.endswith('relative_position_index'):
            attention: Any = model.get_submodule(name.rpartition('.')[0])
            found[name] = relative_position_index(attention.window).view_as(buffer).to(device)
    return found


def initial_value(name: str, shape: torch.Size, device: torch.device) -> Tensor:
    """What an output norm, or else an absolute embedding, starts from."""
    if is_output_norm(name):
        return torch.full(shape, float(name.endswith('.weight')), device=device)
    return nn.init.trunc_normal_(torch.empty(shape, device=device), std=TABLE_STD)


def check_memory(model: nn.Module, values: Mapping[str, Tensor], indices: Mapping[str, Tensor]) -> None:
    """Refuse a model that would have parts on 'meta' after loading ``values`` and ``indices``."""
    left = [name for name, parameter in parameters_of(model).items() if parameter.is_meta and name not in values]
    left += [name for name, buffer in model.named_buffers() if buffer.is_meta and name not in indices]
    if left:
        raise InputError(
            f"{len(left)} tensors of this backbone are on the device 'meta' and no file has values for them, such as "
            f'{left[0]}: build the backbone on another device.'
        )


def like(parameter: Tensor, value: Any, name: str) -> Tensor:
    """``value`` in the type of ``parameter``, on its device and in its shards; a copy where it is to replace it.

    Raises:
        InputError: that is impossible.
    """
    sharded: Any = parameter
    try:
        if hasattr(value, 'full_tensor'):
            value = value.full_tensor()
        if value.layout is not torch.strided:
            raise TypeError(f'its layout is {value.layout}')
        device = value.device if parameter.is_meta else parameter.device
        value = value.detach().to(device, parameter.dtype, copy=parameter.is_meta)
        if not hasattr(parameter, 'device_mesh'):
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, sharded.device_mesh, sharded.placements)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(
            f'{name} cannot be copied into this backbone ({reason}), and nothing was loaded: give dense tensors with '
            'values, and load weights before the backbone is sharded, quantised or wrapped.'
        ) from error
