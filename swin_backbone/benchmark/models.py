"""Where the time of a whole detector or segmenter goes: backbone, neck and heads, and what follows them."""

import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from swin_backbone.benchmark.rivals import (
    Shape,
    Subjects,
    autocast,
    check_names,
    ours,
    usable_backends,
)
from swin_backbone.benchmark.timing import Timing, compare, synchronize, turns
from swin_backbone.errors import InputError
from swin_backbone.variants import get_variant

PARTS = ('backbone', 'neck and heads', 'post-processing', 'whole')
"""What a prediction consists of. Post-processing is what no layer does: decoding, suppression, choosing, pasting."""


class Stopwatch:
    """Milliseconds inside the outermost layers of a network, by part.

    Args:
        network: a detector or segmenter of the toolkits.
        device: where it runs.
    """

    def __init__(self, network: Any, device: str) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)
        self._depth = 0
        self._started = 0.0
        for name, layer in network.named_modules():
            if name and not name.startswith('data_preprocessor'):
                part = 'backbone' if name.split('.')[0] == 'backbone' else 'neck and heads'
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(lambda *_, part=part: self._leave(part))

    def _enter(self, *_: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            synchronize(self.device)
            self._started = time.perf_counter()

    def _leave(self, part: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            synchronize(self.device)
            self.spent[part] += 1000 * (time.perf_counter() - self._started)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure one prediction from zero, and put it into parts."""
        self.spent.clear()
        synchronize(self.device)
        started = time.perf_counter()
        yield
        synchronize(self.device)
        whole = 1000 * (time.perf_counter() - started)
        self.spent['post-processing'] = whole - self.spent['backbone'] - self.spent['neck and heads']
        self.spent['whole'] = whole


def build_networks(config: Any, against: Sequence[str], device: str) -> Subjects:
    """The network of a config with our backbone on every backend, and with the toolkit's own.

    Random weights: a detector finds little then, so that its post-processing takes less than after training.

    Raises:
        InputError: the config's backbone is not ours.
    """
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, DefaultScope

    check_names(against)
    scope = config.get('default_scope', 'mmdet')
    if config.model.backbone.get('type') != 'swin_backbone.SwinTransformer':
        raise InputError('the backbone of the config is not swin_backbone.SwinTransformer: give a config that has it.')
    found = Subjects(left_out={name: 'only backbones are compared with it' for name in against if name != scope})
    choices = {ours(name): dict(config.model.backbone, backend=name, init_cfg=None) for name in usable_backends(device)}
    try:
        if scope in against:
            choices = {scope: stock_backbone(config.model.backbone, scope), **choices}
    except LookupError as error:
        found.left_out[scope] = f'it has no such backbone: {error}'
    for name, backbone in choices.items():
        with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the toolkits' about themselves
            torch.manual_seed(0)
            model = revert_sync_batchnorm(MODELS.build({**config.model, 'backbone': backbone}))
            model.init_weights()
        found.models[name] = model.to(device)
        found.models[name].eval()
    return found


def stock_backbone(options: Any, scope: str) -> dict[str, Any]:
    """The toolkit's own backbone in place of ours.

    Raises:
        LookupError: the toolkit has none like it.
    """
    known = {'type', 'variant', 'version', 'drop_path_rate', 'out_indices', 'init_cfg', 'with_cp', 'frozen_stages'}
    known |= {'embed_dim', 'depths', 'num_heads', 'window_size', 'backend'}
    strange = sorted(set(options) - known)
    if options.get('version', 1) != 1 or strange:
        raise LookupError(', '.join(strange) or 'version 2')
    sizes = vars(get_variant(options.get('variant') or 'tiny', 1)) | {k: v for k, v in options.items() if v is not None}
    return dict(
        type=f'{scope}.SwinTransformer',
        embed_dims=sizes['embed_dim'],
        depths=sizes['depths'],
        num_heads=sizes['num_heads'],
        window_size=sizes.get('window_size', 7),
        out_indices=sizes.get('out_indices', (0, 1, 2, 3)),
    )


def data_for(model: Any, shape: Shape, batch: int) -> dict[str, Any]:
    """Random pictures as the model's test pipeline would hand them over."""
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=generator) for _ in range(batch)]
    size = tuple(shape)
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    return dict(inputs=pictures, data_samples=[Sample(metainfo=dict(meta)) for _ in pictures])


def time_networks(
    found: Subjects, shape: Shape, batch: int, dtype: torch.dtype, device: str, warm_up: int, rounds: int
) -> list[Timing]:
    """Time the parts of a prediction of every network, in turns."""
    watches = {name: Stopwatch(model, device) for name, model in found.models.items()}
    times: dict[str, dict[str, list[float]]] = {part: {name: [] for name in watches} for part in PARTS}
    names = list(watches)
    for number in range(warm_up + rounds):
        for name in turns(names, number):
            model, watch = found.models[name], watches[name]
            data = model.data_preprocessor(data_for(model, shape, batch), False)
            with torch.no_grad(), autocast(dtype, device), watch.running():
                model.predict(data['inputs'], data['data_samples'])
            if number >= warm_up:
                for part in PARTS:
                    times[part][name].append(watch.spent[part])
    return [row for part in PARTS for row in compare(times[part], part)]
