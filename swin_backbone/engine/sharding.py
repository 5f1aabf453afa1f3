"""Models in shards: weights, gradients and optimizer state divided among the processes, block by block (FSDP2)."""

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
    """Whether a model is in shards."""
    return isinstance(model, FSDPModule)


def shard(model: nn.Module, sync_bn: str | None = None) -> nn.Module:
    """Divide the blocks of a model, and then what is left of it, among the processes.

    Args:
        model: with memory, or with a backbone from :func:`build_in_shards`; changed in place.
        sync_bn: the config's ``sync_bn``, which names a kind of synchronised batch norms.
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
        module._register_load_state_dict_pre_hook(cut_weights, with_module=True)
    return model


def all_processes() -> DeviceMesh:
    """The processes of the run, each with its device."""
    return init_device_mesh(get_device().partition(':')[0], (dist.get_world_size(),))


def shard_blocks(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide each block that is whole, and then what is left of a model."""
    for block in [module for module in model.modules() if isinstance(module, SwinBlock)]:
        if not is_sharded(block):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def make_vectors(model: nn.Module) -> set[str]:
    """Make parameters that are single numbers vectors, since a number has no shards; return their names."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() == 0}
    for name, parameter in found.items():
        owner, _, leaf = name.rpartition('.')
        vector = nn.Parameter(parameter.detach().reshape(1), requires_grad=parameter.requires_grad)
        setattr(model.get_submodule(owner), leaf, vector)
    return set(found)


class Draws:
    """Lets ``nn.init`` fill parameters that are on 'meta' or in shards as it fills whole ones, one at a time.

    On 'meta' the values are dropped, so that what is drawn later is what it always is, and the state of the generator
    before them is kept. A parameter in shards is filled from its state, if there is one.

    Attributes:
        states: of the CPU's generator, by the id of a parameter.
    """

    def __init__(self) -> None:
        self.states: dict[int, Tensor] = {}

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Replace the functions of ``nn.init`` meanwhile."""
        with ExitStack() as stack:
            for name in [name for name in vars(nn.init) if re.fullmatch('[a-z].*_', name)]:
                stack.enter_context(patch.object(nn.init, name, partial(self.fill, getattr(nn.init, name))))
            yield

    def fill(self, function: Any, tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        """Fill a tensor with a function of ``nn.init``."""
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
    """Build a Swin backbone from its config in shards: on 'meta' first, and then parameter by parameter.

    A process never holds more than its shards and one parameter. The values are those of the same backbone that is
    built whole after the same seed.
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
    """The config of a model whose backbone, if it is a Swin, is built by :func:`build_in_shards`."""
    backbone = model.get('backbone')
    kind = backbone.get('type') if isinstance(backbone, dict) else None
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not isinstance(found, type) or not issubclass(found, SwinTransformer):
        return model
    return {**model, 'backbone': dict(type=build_from, options=backbone)}


def build_from(options: dict[str, Any], **changes: Any) -> nn.Module:
    """Build a backbone from its config and what a detector or segmenter has added to it."""
    return build_in_shards({**options, **changes})


def initialise(model: Any) -> None:
    """Call ``init_weights`` of a model in shards; its heads are whole meanwhile, and may do anything in it."""
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


def cut_weights(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Replace whole weights that are loaded by the shards of this process, as a pre-hook with module."""
    for name, parameter in module.named_parameters(recurse=False):
        value = state_dict.get(prefix + name)
        if isinstance(parameter, DTensor) and isinstance(value, Tensor) and not isinstance(value, DTensor):
            value = value.reshape(1) if value.dim() == 0 else value
            if value.shape == parameter.shape:  # PyTorch reports others
                state_dict[prefix + name] = like(parameter, value, prefix + name)


def cut_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Replace a whole state of an optimizer that is loaded by the shards of this process, as its pre-hook."""
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
    """A value of the optimizer's for a parameter, in its shards."""
    return like(parameter, value.reshape(parameter.shape), 'the state of the optimizer')


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The state dict of a model in shards, as the model would have it whole; empty tensors in all but one process."""
    state = model.state_dict()
    for name, value in state.items():
        state[name] = whole(value, name in vars(model)['numbers'])
    return state


def is_divided(optim_wrapper: Any) -> bool:
    """Whether every process has a part of the state of an optimizer."""
    optimizer = getattr(optim_wrapper, 'optimizer', None)
    shards = any(isinstance(p, DTensor) for group in getattr(optimizer, 'param_groups', ()) for p in group['params'])
    return shards or isinstance(optimizer, ZeroRedundancyOptimizer)


def whole_state(model: nn.Module, optim_wrapper: Any) -> dict[str, Any]:
    """The state of an optimizer as it would be whole, in the first process; the others have something without it."""
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

    PyTorch's ``consolidate_state_dict`` does the same, but converts every byte by itself: minutes for some hundred MiB.
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
    """What is in shards as a whole in the first process, on the CPU; with ``number``, a vector as a number."""
    if not isinstance(value, DTensor):
        return value
    gathered = value.full_tensor()
    if not dist.is_main_process():
        return gathered.new_empty(0)
    return gathered.cpu().reshape(() if number else gathered.shape)


class ShardedEvaluationHook(Hook):
    """Gathers the weights once, not in each pass, where processes do not all evaluate with as many passes.

    They would wait for each other otherwise: with windows that slide over images, or a sampler that gives some
    processes more images.
    """

    priority = 'VERY_HIGH'

    def before_val(self, runner: Runner) -> None:
        """Prepare a validation."""
        self.prepare(runner.model, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Prepare a test."""
        self.prepare(runner.model, runner.test_dataloader)

    def after_val(self, runner: Runner) -> None:
        """Give up whole weights."""
        release(runner.model)

    def after_test(self, runner: Runner) -> None:
        """Give up whole weights."""
        release(runner.model)

    def prepare(self, model: Any, loader: Any) -> None:
        """Keep weights whole from the next pass on, if that is necessary."""
        slides = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
        if slides or not getattr(loader.sampler, 'round_up', True):
            model.set_reshard_after_forward(False)


def release(model: Any) -> None:
    """Leave every process with its shards, as in training."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)
