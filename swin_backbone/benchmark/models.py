"""Time a whole detector or segmenter by parts: backbone, neck and heads, and post-processing."""

import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from swin_backbone.benchmark.implementations import OURS, Shape, Subjects, autocast, check_names
from swin_backbone.benchmark.timing import Timing, compare, rotate_order, synchronize
from swin_backbone.errors import InputError
from swin_backbone.variants import get_variant

PARTS = ('backbone', 'neck and heads', 'post-processing', 'whole')
"""Parts of a prediction. Post-processing is everything outside of layers: decoding, NMS, selection, mask pasting."""

SHARED_OPTIONS = {'embed_dim', 'depths', 'num_heads', 'window_size', 'out_indices'}
TIMELESS_OPTIONS = {'type', 'variant', 'version', 'drop_path_rate', 'init_cfg', 'with_cp', 'frozen_stages', 'backend'}
"""Options of our backbone that the toolkits' backbone also has, and options that do not affect the inference time."""


class Stopwatch:
    """Measure the milliseconds inside the outermost layers of a network, by part.

    Args:
        network: a detector or segmenter of the toolkits.
        device: device of the network.
    """

    def __init__(self, network: Any, device: str) -> None:
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)
        self._depth = 0
        self._started = 0.0
        for name, layer in network.named_modules():
            # Hooks inside of the backbone would disable its fast paths.
            if name and not name.startswith(('data_preprocessor', 'backbone.')):
                part = 'backbone' if name.split('.')[0] == 'backbone' else 'neck and heads'
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(lambda *_, part=part: self._leave(part))

    def _now(self) -> float:
        synchronize(self.device)
        return 1000 * time.perf_counter()

    def _enter(self, *_: Any) -> None:
        self._depth += 1
        if self._depth == 1:
            self._started = self._now()

    def _leave(self, part: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.spent[part] += self._now() - self._started

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure one prediction into ``spent``."""
        self.spent.clear()
        started = self._now()
        yield
        whole = self._now() - started
        self.spent['post-processing'] = whole - self.spent['backbone'] - self.spent['neck and heads']
        self.spent['whole'] = whole


def build_networks(config: Any, against: Sequence[str], device: str) -> Subjects:
    """Build the network of a config with our backbone for every backend, and with the toolkit's own.

    Weights are random: a detector finds few objects, so its post-processing is faster than after training.

    Raises:
        InputError: if the config has another backbone.
    """
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS, DefaultScope

    check_names(against)
    scope = config.get('default_scope', 'mmdet')
    options = config.model.backbone
    if options.get('type') != 'swin_backbone.SwinTransformer':
        raise InputError('the backbone of the config is not swin_backbone.SwinTransformer: use a config with that.')
    found = Subjects(left_out={name: 'it is only available for backbones' for name in against if name != scope})
    choices = {name: dict(options, backend=backend, init_cfg=None) for name, backend in OURS.items()}
    if scope in against:
        unshared = sorted(set(options) - SHARED_OPTIONS - TIMELESS_OPTIONS)
        if options.get('version', 1) == 1 and not unshared:
            choices = {scope: stock_backbone(options, scope), **choices}
        else:
            found.left_out[scope] = f'it has no such backbone: {", ".join(unshared) or "version 2"}'
    for name, backbone in choices.items():
        with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the toolkits warn about their own defaults
            torch.manual_seed(0)
            model = revert_sync_batchnorm(MODELS.build({**config.model, 'backbone': backbone}))
            model.init_weights()
        found.models[name] = model.to(device)
        found.models[name].eval()
    return found


def stock_backbone(options: Any, scope: str) -> dict[str, Any]:
    """Return the config of the toolkit's backbone with the sizes of ours."""
    sizes = vars(get_variant(options.get('variant') or 'tiny', 1)) | {k: v for k, v in options.items() if v is not None}
    shared = {name: sizes[name] for name in SHARED_OPTIONS & set(sizes)}
    return dict(type=f'{scope}.SwinTransformer', embed_dims=shared.pop('embed_dim'), **shared)


def data_for(model: Any, shape: Shape, batch: int) -> dict[str, Any]:
    """Create random images in the format of the model's test pipeline."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=generator) for _ in range(batch)]
    meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    return dict(inputs=images, data_samples=[Sample(metainfo=dict(meta, scale_factor=(1.0, 1.0))) for _ in images])


def time_networks(
    found: Subjects, shape: Shape, batch: int, dtype: torch.dtype, device: str, warm_up: int, rounds: int
) -> list[Timing]:
    """Time the parts of a prediction of every network, interleaved."""
    watches = {name: Stopwatch(model, device) for name, model in found.models.items()}
    times: dict[str, dict[str, list[float]]] = {part: {name: [] for name in watches} for part in PARTS}
    for number in range(warm_up + rounds):
        for name in rotate_order(list(watches), number):
            model, watch = found.models[name], watches[name]
            data = model.data_preprocessor(data_for(model, shape, batch), False)
            with torch.no_grad(), autocast(dtype, device), watch.running():
                model.predict(data['inputs'], data['data_samples'])
            if number >= warm_up:
                for part in PARTS:
                    times[part][name].append(watch.spent[part])
    return [row for part in PARTS for row in compare(times[part], part)]
