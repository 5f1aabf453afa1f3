"""Sharded models: weights, gradients and optimizer state divided among the processes, block by block (FSDP2)."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
from mmengine import dist
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm, revert_sync_batchnorm
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from swin_backbone.backbones.blocks import SwinBlock
from swin_backbone.backbones.swin import SwinTransformer, reset_module
from swin_backbone.checkpoint.assign import like


def is_sharded(model: nn.Module) -> bool:
    """Return whether a model is sharded."""
    return isinstance(model, FSDPModule)


def shard(model: nn.Module, sync_bn: str | None = None) -> nn.Module:
    """Shard the blocks of a model, and then its remaining parameters, over all processes.

    Args:
        model: a model with allocated parameters or a backbone from :func:`build_in_shards`; changed in place.
        sync_bn: the config's ``sync_bn``, the implementation of synchronised batch norms.
    """
    mesh = all_processes()
    if mesh.device_type == 'cpu':
        model = revert_sync_batchnorm(model)
    elif sync_bn is not None:
        model = convert_sync_batchnorm(model, sync_bn)
    model.to(get_device())
    vars(model)['numbers'] = make_vectors(model)
    shard_blocks(model, mesh)
    for module in model.modules():
        module._register_load_state_dict_pre_hook(shard_loaded_weights, with_module=True)
    return model


def all_processes() -> DeviceMesh:
    """Return the mesh of all processes of the run."""
    return init_device_mesh(get_device().partition(':')[0], (dist.get_world_size(),))


def shard_blocks(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shard each block that is not sharded yet, and then the remaining parameters of a model."""
    for block in [module for module in model.modules() if isinstance(module, SwinBlock)]:
        if not is_sharded(block):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def make_vectors(model: nn.Module) -> set[str]:
    """Reshape scalar parameters to vectors, because scalars cannot be sharded, and return their names."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 0}
    for name, parameter in found.items():
        owner, _, leaf = name.rpartition('.')
        vector = nn.Parameter(parameter.detach().reshape(1), requires_grad=parameter.requires_grad)
        setattr(model.get_submodule(owner), leaf, vector)
    return set(found)


class Draws:
    """Makes ``nn.init`` initialise meta and sharded parameters with the same values as in an unsharded model.

    For a meta parameter, the values are drawn and dropped, so that later draws do not change, and the generator state
    before them is saved. A sharded parameter is initialised from its saved state, one parameter at a time.

    Attributes:
        states: states of the CPU generator by the id of a parameter.
    """

    def __init__(self) -> None:
        self.states: dict[int, Tensor] = {}

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Replace the functions of ``nn.init`` inside the context."""
        with ExitStack() as stack:
            for name in [name for name in vars(nn.init) if re.fullmatch('[a-z].*_', name)]:
                stack.enter_context(patch.object(nn.init, name, partial(self.fill, getattr(nn.init, name))))
            yield

    def fill(self, function: Any, tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        """Initialise a tensor with a function of ``nn.init``."""
        if not tensor.is_meta and not isinstance(tensor, DTensor):
            return cast(Tensor, function(tensor, *args, **options))
        device = tensor.device
        if tensor.is_meta:
            self.states[id(tensor)], device = torch.get_rng_state(), torch.device('cpu')
        elif id(tensor) in self.states:
            torch.set_rng_state(self.states[id(tensor)])
            device = torch.device('cpu')
        value = function(torch.empty(tensor.shape, dtype=tensor.dtype, device=device), *args, **options)
        return tensor if tensor.is_meta else tensor.copy_(like(tensor, value, 'a new parameter'))


def build_in_shards(options: dict[str, Any]) -> nn.Module:
    """Build a sharded Swin backbone from its config: first on 'meta', then parameter by parameter.

    A process never allocates more than its shards and one complete parameter. The initial values are the same as
    without sharding for the same seed.
    """
    draws = Draws()
    with draws.filling(), torch.device('meta'):
        backbone: Any = MODELS.build(options)
    end = torch.get_rng_state()
    names = {id(parameter): name for name, parameter in backbone.named_parameters()}
    states = {names[key]: state for key, state in draws.states.items() if key in names}
    mesh = all_processes()
    shard_blocks(backbone, mesh)
    backbone.to_empty(device=mesh.device_type)
    draws.states = {id(backbone.get_parameter(name)): state for name, state in states.items()}
    with draws.filling(), torch.no_grad():
        backbone.apply(reset_module)
    backbone.is_uninitialized = False
    torch.set_rng_state(end)
    return backbone


def with_sharded_backbone(model: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a model with its Swin backbone, if it has one, built by :func:`build_in_shards`."""
    backbone = model.get('backbone')
    kind = backbone.get('type') if isinstance(backbone, dict) else None
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type) or not issubclass(found, SwinTransformer):
        return model
    return {**model, 'backbone': dict(type=build_from, options=backbone)}


def build_from(options: dict[str, Any], **changes: Any) -> nn.Module:
    """Build a sharded backbone from its config and the arguments that a detector or segmenter adds to it."""
    return build_in_shards({**options, **changes})


def initialise(model: Any) -> None:
    """Call ``init_weights`` of a sharded model, with its heads unsharded so that they can use any operation."""
    model.unshard()
    model.init_weights()
    values = {name: p.detach().clone() for name, p in model.named_parameters() if not isinstance(p, DTensor)}
    model.reshard()
    with torch.no_grad():
        for name, value in values.items():
            parameter = model.get_parameter(name)
            parameter.copy_(like(parameter, value, name))
    for buffer in model.buffers():
        dist.broadcast(buffer)


def shard_loaded_weights(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Replace complete weights by the shards of this process: a pre-hook of ``load_state_dict``."""
    for name, parameter in module.named_parameters(recurse=False):
        value = state_dict.get(prefix + name)
        if isinstance(parameter, DTensor) and isinstance(value, Tensor) and not isinstance(value, DTensor):
            value = value.reshape(1) if value.dim() == 0 else value
            if value.shape == parameter.shape:  # PyTorch reports different shapes
                state_dict[prefix + name] = like(parameter, value, prefix + name)


def shard_loaded_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Replace a complete optimizer state by the shards of this process: a pre-hook of the optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    return {
        **state,
        'state': {
            index: {
                key: value if key == 'step' or not isinstance(value, Tensor) else like_state(parameters[index], value)
                for key, value in entry.items()
            }
            for index, entry in state['state'].items()
        },
    }


def like_state(parameter: Tensor, value: Tensor) -> Tensor:
    """Shard an optimizer state tensor like its parameter."""
    return like(parameter, value.reshape(parameter.shape), 'the state of the optimizer')


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """Return the unsharded state dict of a sharded model in the first process; others get empty tensors."""
    state = model.state_dict()
    for name, value in state.items():
        state[name] = whole(value, name in vars(model)['numbers'])
    return state


def is_divided(optim_wrapper: Any) -> bool:
    """Return whether the state of an optimizer is divided among the processes."""
    optimizer = getattr(optim_wrapper, 'optimizer', None)
    shards = any(isinstance(p, DTensor) for group in getattr(optimizer, 'param_groups', ()) for p in group['params'])
    return shards or isinstance(optimizer, ZeroRedundancyOptimizer)


def whole_state(model: nn.Module, optim_wrapper: Any) -> dict[str, Any]:
    """Return the complete optimizer state in the first process; the result in other processes is incomplete."""
    if not is_sharded(model):
        with patch.object(optim_wrapper.optimizer, 'consolidate_state_dict', partial(gather, optim_wrapper.optimizer)):
            return dict(optim_wrapper.state_dict())
    numbers = {id(model.get_parameter(name)) for name in vars(model)['numbers']}
    parameters = [parameter for group in optim_wrapper.param_groups for parameter in group['params']]
    state = optim_wrapper.state_dict()
    state['state'] = {
        index: {key: whole(value, id(parameters[index]) in numbers) for key, value in entry.items()}
        for index, entry in state['state'].items()
    }
    return state


def gather(optimizer: Any) -> None:
    """Collect the parts of a ZeroRedundancyOptimizer's state in the first process.

    PyTorch's ``consolidate_state_dict`` does the same, but converts single bytes and takes minutes for some 100 MiB.
    """
    optimizer._sync_param_groups(optimizer.param_groups, optimizer.optim.param_groups)
    state = optimizer.optim.state_dict()
    parts = {
        index: {key: value.cpu() if isinstance(value, Tensor) else value for key, value in entry.items()}
        for index, entry in state['state'].items()
    }
    optimizer._all_state_dicts = []
    for rank in range(dist.get_world_size()):
        sent = [{**state, 'state': parts} if rank == dist.get_rank() else None]
        torch.distributed.broadcast_object_list(sent, rank)
        if dist.is_main_process():
            optimizer._all_state_dicts.append(sent[0])


def whole(value: Any, number: bool = False) -> Any:
    """Gather a sharded tensor on the CPU of the first process; with ``number``, reshape it to a scalar."""
    if not isinstance(value, DTensor):
        return value
    gathered = value.full_tensor()
    if not dist.is_main_process():
        return gathered.new_empty(0)
    return gathered.cpu().reshape(() if number else gathered.shape)


class ShardedEvaluationHook(Hook):
    """Gathers the weights once per evaluation if the number of forward passes differs between processes.

    Otherwise, processes would wait for each other forever. The numbers differ for sliding-window inference, and for
    samplers that give some processes more images.
    """

    priority = 'VERY_HIGH'

    def before_val(self, runner: Runner) -> None:
        """Gather the weights for a validation if necessary."""
        self.prepare(runner.model, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Gather the weights for a test if necessary."""
        self.prepare(runner.model, runner.test_dataloader)

    def after_val(self, runner: Runner) -> None:
        """Shard the weights again."""
        release(runner.model)

    def after_test(self, runner: Runner) -> None:
        """Shard the weights again."""
        release(runner.model)

    def prepare(self, model: Any, loader: Any) -> None:
        """Keep weights gathered after the next forward pass if the number of passes may differ."""
        slides = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
        if slides or not getattr(loader.sampler, 'round_up', True):
            model.set_reshard_after_forward(False)


def release(model: Any) -> None:
    """Shard all weights again, as in training."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)
