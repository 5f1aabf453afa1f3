"""Weights of a timm network in the names and containers of other codebases.

The names are written out here, independently of the loader's tables.
"""

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.checkpoint.peers import build_peer, peer_maps

State = dict[str, Tensor]
# Maps of 32, 16 and 8 tokens: whole windows, and more than one of them in each stage.
SIZES: dict[str, Any] = dict(embed_dim=16, depths=(2, 2, 2), num_heads=(1, 2, 4), window_size=4)
SIDE = 128


def original_names(state: State) -> State:
    """Rename timm's weights to those of the original code; the final norm and the head are dropped."""
    out = {}
    for name, value in state.items():
        parts = name.split('.')
        if 'downsample' in parts:
            parts[1] = str(int(parts[1]) - 1)
        if parts[0] not in ('norm', 'head'):
            out['.'.join(parts)] = value
    return out


@cache
def reference(version: int, shared: bool = False) -> tuple[State, Tensor, list[Tensor]]:
    """Return weights under original names, an image, and timm's maps after layer norms without weights.

    With ``shared``, the blocks of a stage have the same position bias.
    """
    torch.manual_seed(version)
    model = build_peer('timm', version, SIZES, SIDE)
    if shared:
        for layer in model.layers:  # type: ignore[union-attr]
            first, second = layer.blocks
            second.attn.cpb_mlp.load_state_dict(first.attn.cpb_mlp.state_dict())
    image = torch.randn(2, 3, SIDE, SIDE)
    return original_names(model.state_dict()), image, peer_maps('timm', model, image, stages=3)


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def arrays(state: State) -> dict[str, Any]:
    return {name: value.numpy() for name, value in state.items()}


def other(state: State) -> State:
    """Return the same network with other weights."""
    return {name: value + 1 for name, value in state.items()}


def detectron2(prefix: str, protocol: int) -> Callable[[Path, State], Path]:
    def write(folder: Path, state: State) -> Path:
        contents = {'model': arrays(prefixed(prefix, state)), '__author__': 'third_party', 'matching_heuristics': True}
        contents['model']['sem_seg_head.predictor.query_feat.weight'] = np.ones((2, 2), np.float32)
        (folder / 'model_final.pkl').write_bytes(pickle.dumps(contents, protocol))
        return folder / 'model_final.pkl'

    return write


def saved(build: Callable[[State], Any], name: str = 'file.pth') -> Callable[[Path, State], Path]:
    def write(folder: Path, state: State) -> Path:
        torch.save(build(state), folder / name)
        return folder / name

    return write


def npz(folder: Path, state: State) -> Path:
    np.savez(folder / 'weights.npz', **arrays(state))
    return folder / 'weights.npz'


def halves(state: State) -> list[State]:
    names = list(state)
    return [{name: state[name] for name in part} for part in (names[::2], names[1::2])]


def sharded(suffix: str, index: str) -> Callable[[Path, State], Path]:
    """Return a function that writes two shards to a folder, and an index if ``index`` is not empty."""

    def write(folder: Path, state: State) -> Path:
        weight_map = {}
        for number, part in enumerate(halves(state), start=1):
            file = f'model-{number:05}-of-00002{suffix}'
            (save_file if suffix == '.safetensors' else torch.save)(part, folder / file)
            weight_map.update(dict.fromkeys(part, file))
        if index:
            (folder / index).write_text(json.dumps({'metadata': {'total_size': 1}, 'weight_map': weight_map}))
        return folder

    return write


def in_index(folder: Path, state: State) -> Path:
    sharded('.safetensors', 'model.safetensors.index.json')(folder, state)
    return folder / 'model.safetensors.index.json'


def rpe(state: State) -> State:
    return {name.replace('.cpb_mlp.', '.rpe_mlp.'): value for name, value in state.items()}


def simmim(state: State) -> Any:
    decoder = {'decoder.0.weight': torch.ones(48, 64, 1, 1), 'decoder.0.bias': torch.ones(48)}
    mask = {'encoder.mask_token': torch.ones(1, 1, 16)}
    return {'model': {**prefixed('encoder.', rpe(state)), **mask, **decoder}, 'epoch': 99, 'scaler': {}}


def distilled(state: State) -> Any:
    """A V2 student with one position bias per stage, and its frozen V1 teacher."""
    student = {}
    for name, value in rpe(state).items():
        stage, inner, rest = name.partition('.blocks.0.attn.rpe_mlp.')
        if '.blocks.1.attn.rpe_mlp.' not in name:
            student[f'{stage}.rel_pos_bias.rpe_mlp.{rest}' if inner else name] = value
    teacher = prefixed('feature_model.', other(reference(1)[0]))
    return {'model': {**prefixed('encoder.', student), **teacher, 'decoder.0.bias': torch.ones(48)}}


def lightning(state: State) -> Any:
    return {
        'state_dict': {
            **prefixed('model.net.', state),
            'model.head.weight': torch.ones(2),
            'loss.weight': torch.ones(2),
        },
        'hyper_parameters': {'lr': 1e-4, 'sizes': [1, 2]},
        'pytorch-lightning_version': '2.4.0',
        'callbacks': {"ModelCheckpoint{'monitor': 'val'}": {'best_model_score': torch.tensor(0.5)}},
        'loops': {'fit_loop': {'state_dict': {}}},
        'optimizer_states': [{'state': {0: {'exp_avg': torch.ones(2)}}, 'param_groups': [{'lr': 1.0}]}],
    }


def deepspeed(state: State) -> Any:
    return {
        'module': prefixed('backbone.', state),
        'param_shapes': [OrderedDict((name, value.shape) for name, value in state.items())],
        'buffer_names': [],
        'optimizer': None,
        'sparse_tensor_module_names': set(),
        'dp_world_size': 8,
        'ds_config': {'zero_optimization': {'stage': 2}},
    }


def wrapped(state: State) -> State:
    return {
        f'_orig_mod.{name}'.replace('.blocks.', '.blocks._fsdp_wrapped_module.').replace(
            '.mlp.', '._checkpoint_wrapped_module.mlp.'
        ): value
        for name, value in state.items()
    }


# By name: version, function that writes the file, and ``ignored`` of the report.
FILES: dict[str, tuple[int, Callable[[Path, State], Path], tuple[str, ...]]] = {
    'Mask2Former .pkl': (1, detectron2('backbone.', 4), ()),
    'Mask2Former .pkl, protocol 2': (1, detectron2('backbone.', 2), ()),
    'Mask2Former .pkl, protocol 5': (1, detectron2('backbone.', 5), ()),
    'Detectron2 .pkl with FPN': (1, detectron2('backbone.bottom_up.', 4), ()),
    'numpy in torch.save': (1, saved(lambda s: {'model': arrays(s)}), ()),
    '.npz': (2, npz, ()),
    'SimMIM V2': (2, saved(simmim), ()),
    'SimMIM V2 fine-tuned': (2, saved(lambda s: {'model': {**rpe(s), 'head.bias': torch.ones(3)}}), ()),
    'Feature Distillation': (2, saved(distilled), ('model.feature_model.',)),
    'safetensors index': (1, in_index, ()),
    'folder with safetensors index': (1, sharded('.safetensors', 'model.safetensors.index.json'), ()),
    'folder with torch index': (1, sharded('.bin', 'pytorch_model.bin.index.json'), ()),
    'folder of shards': (1, sharded('.safetensors', ''), ()),
    'ema_state_dict': (1, saved(lambda s: {'state_dict': other(s), 'ema_state_dict': s}), ('state_dict.',)),
    'mmengine': (
        1,
        saved(
            lambda s: {'state_dict': s, 'ema_state_dict': {'steps': torch.ones(()), **prefixed('module.', other(s))}}
        ),
        ('ema_state_dict.module.',),
    ),
    'model_ema': (1, saved(lambda s: {'model': other(s), 'model_ema': s}), ('model.',)),
    'state_dict_ema': (1, saved(lambda s: {'state_dict': other(s), 'state_dict_ema': s}), ('state_dict.',)),
    'ema': (1, saved(lambda s: {'model': other(s), 'ema': prefixed('module.', s)}), ('model.',)),
    'teacher and student': (
        1,
        saved(lambda s: {'student': prefixed('module.', other(s)), 'teacher': prefixed('module.', s)}),
        ('student.module.',),
    ),
    'Lightning': (1, saved(lightning, 'last.ckpt'), ()),
    'DeepSpeed': (1, saved(deepspeed, 'mp_rank_00_model_states.pt'), ()),
    'wrapped modules': (1, saved(wrapped), ()),
}


def random_norms() -> State:
    generator = torch.Generator().manual_seed(3)
    return {
        f'norm{stage}.{kind}': torch.randn(16 * 2**stage, generator=generator)
        for stage in range(3)
        for kind in ('weight', 'bias')
    }
