"""Assign values to the parameters of a model: ordinary, sharded, or on the 'meta' device."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swin_backbone.attention.position_encoding import TABLE_STD, relative_position_index
from swin_backbone.checkpoint.output_norms import is_output_norm
from swin_backbone.checkpoint.parameter_names import modules_of, parameters_of
from swin_backbone.errors import InputError


def assign(model: nn.Module, values: Mapping[str, Tensor], new: Iterable[str]) -> None:
    """Assign ``values`` to the parameters of ``model`` with the same names; on an error the model is unchanged.

    A parameter on 'meta' is replaced by a new one on the device of its value. Parameters on 'meta' listed in ``new``,
    for which there is no value, get their initial value, and the indices of bias tables are computed.

    Raises:
        InputError: if a value cannot be copied, or a tensor of the model would remain on 'meta'.
    """
    parameters = parameters_of(model)
    values, indices = dict(values), {}
    if not any(value.is_meta for value in values.values()):  # values on 'meta' only have shapes
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
    """Compute the bias table indices that are on 'meta' from their windows; keys are the names of the buffers."""
    found = {}
    for name, buffer in model.named_buffers():
        if buffer.is_meta and name.endswith('relative_position_index'):
            attention: Any = model.get_submodule(name.rpartition('.')[0])
            found[name] = relative_position_index(attention.window).view_as(buffer).to(device)
    return found


def initial_value(name: str, shape: torch.Size, device: torch.device) -> Tensor:
    """Return the initial value of an output norm or of an absolute embedding."""
    if is_output_norm(name):
        return torch.full(shape, float(name.endswith('.weight')), device=device)
    return nn.init.trunc_normal_(torch.empty(shape, device=device), std=TABLE_STD)


def check_memory(model: nn.Module, values: Mapping[str, Tensor], indices: Mapping[str, Tensor]) -> None:
    """Raise an error if tensors of ``model`` would remain on 'meta' after loading ``values`` and ``indices``."""
    left = [name for name, parameter in parameters_of(model).items() if parameter.is_meta and name not in values]
    left += [name for name, buffer in model.named_buffers() if buffer.is_meta and name not in indices]
    if left:
        raise InputError(
            f"{len(left)} tensors of this backbone, such as {left[0]}, are on the device 'meta' and the file has no "
            'values for them: build the backbone on another device.'
        )


def like(parameter: Tensor, value: Any, name: str) -> Tensor:
    """Return ``value`` with the dtype, device and sharding of ``parameter``; a copy if the parameter is on 'meta'.

    Raises:
        InputError: if the value cannot be converted.
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
            f'{name} cannot be copied into this backbone ({reason}), and nothing was loaded: pass dense tensors that '
            "are not on 'meta', and load weights before sharding, quantising or wrapping the backbone."
        ) from error
