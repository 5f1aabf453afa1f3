"""Compare whole models with the toolkits' Swin and with MMSwinTransformer in one training step and a prediction."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor

from swin_backbone.engine.config import dicts_in
from swin_backbone.engine.error_explanations import dicts_with_paths, shorten
from swin_backbone.errors import InputError
from swin_backbone.evaluation.tables import markdown_table
from swin_backbone.mmcv_ops import mmcv_operators
from swin_backbone.model_zoo.toolkit_backbones import TOOLKITS, Use, config_folder, find_uses, quiet

SIDE, IMAGES, FRAMES = 64, 2, 2
BLOCKS, QUERIES, REGIONS, CLASSES = 2, 30, 30, 200
"""Limits of blocks per stage, queries, regions and classes, so that a comparison takes seconds on a CPU."""

RATE = 0.01
"""Learning rate of SGD; Adam is not used, because its first step depends on the signs of gradients near zero."""

TOLERANCE = 1e-4
"""Maximum difference of a loss, relative to the sum, and of a prediction, relative to its largest value."""

HEADER = ('family', 'config', 'loss', 'difference', 'prediction', 'outcome')
COLUMNS = f'{"family":<24}{"loss":>12}{"difference":>12}{"prediction":>12}  outcome'


@dataclass(frozen=True)
class Pair:
    """The result for one model with both backbones.

    Attributes:
        family: toolkit and folder of its config.
        config: path of the config in the folder of configs.
        loss: sum of the losses of a training step with the toolkit's backbone.
        loss_error: largest difference of a loss, relative to that sum.
        prediction_error: largest difference of a score, logit or label, relative to the largest value.
        failure: reason why there was no comparison; empty if there was one.
        missing: whether the reason is a missing package or file.
    """

    family: str
    config: str
    loss: float = float('nan')
    loss_error: float = float('nan')
    prediction_error: float = float('nan')
    failure: str = ''
    missing: bool = False

    @property
    def equal(self) -> bool:
        """Whether the models were compared and do not differ."""
        return self.loss_error < TOLERANCE and self.prediction_error < TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the models are equal, or were not compared because a package or file is missing."""
        return self.equal or self.missing

    @property
    def outcome(self) -> str:
        """The failure, 'equal' or 'DIFFERENT'."""
        return self.failure or ('equal' if self.equal else 'DIFFERENT')

    def cells(self) -> tuple[str, ...]:
        """Return the cells under :data:`HEADER`."""
        numbers = (f'{self.loss:.4f}', f'{self.loss_error:.1e}', f'{self.prediction_error:.1e}')
        shown = ('-',) * 3 if self.failure else numbers
        return (self.family, Path(self.config).stem, *shown, self.outcome)

    def row(self) -> str:
        """Format as a line of the table under :data:`COLUMNS`."""
        _, _, *numbers, outcome = self.cells()
        return f'{self.family:<24}{"".join(f"{number:>12}" for number in numbers)}  {outcome}'


def families(toolkit: str) -> dict[str, Use]:
    """Return the config with the smallest Swin backbone in every folder of configs, by toolkit and folder."""
    found: dict[str, Use] = {}
    for use in find_uses(toolkit):
        family = f'{toolkit}: {Path(use.config).parts[0]}'
        if family not in found or size(use) < size(found[family]):
            found[family] = use
    return found


def size(use: Use) -> tuple[int, int]:
    """Return channels and depth of a backbone for comparison."""
    return use.arguments.get('embed_dims', 96), sum(use.arguments.get('depths', (2, 2, 6, 2)))


def compare_families(toolkits: Sequence[str] = TOOLKITS) -> Iterator[Pair]:
    """Compare one model of every family."""
    for toolkit in toolkits:
        for family, use in families(toolkit).items():
            yield compare_family(toolkit, family, use)


def compare_family(toolkit: str, family: str, use: Use) -> Pair:
    """Compare the models of one config; errors are recorded in the result."""
    config = Config.fromfile(config_folder(toolkit) / use.config, import_custom_modules=False)
    missing = missing_part(config.model)
    if missing:
        return Pair(family, use.config, failure=missing, missing=True)
    try:
        with quiet(), DefaultScope.overwrite_default_scope(config.get('default_scope', toolkit)):
            return compare_models(toolkit, family, use, config.model)
    except Exception as error:  # models of the toolkits may raise any exception
        return Pair(family, use.config, failure=f'{type(error).__name__}: {shorten(str(error))}')


def missing_part(model: Any) -> str:
    """Describe a missing package or file that a model needs; empty if nothing is missing."""
    if find_spec('mmdet') is None and 'mmdet' in str(model):
        return 'needs mmdet'
    for node in dicts_in(model):
        if node.get('type') == 'DyHead' and mmcv_operators() != 'compiled':
            return "needs mmcv's compiled operators: DyHead uses offsets of another size than its maps"
        if node.get('type') == 'BertModel':
            name = str(node.get('name'))
            if find_spec('transformers') is None:
                return 'needs the package transformers'
            from huggingface_hub import try_to_load_from_cache

            if not Path(name).is_dir() and not isinstance(try_to_load_from_cache(name, 'config.json'), str):
                return f'needs the language model {name}, which was not found'
    return ''


def compare_models(toolkit: str, family: str, use: Use, model: Any) -> Pair:
    """Give both models the same weights and seeds, and compare losses and predictions."""
    shrink(model)
    torch.manual_seed(0)
    stock = build(model, use, None)
    stock.init_weights()
    ours = build(model, use, 'swin_backbone.MMSwinTransformer')
    ours.load_state_dict(stock.state_dict(), strict=True)
    losses = [training_losses(one, toolkit) for one in (ours, stock)]
    predictions = [predicted(one, toolkit) for one in (ours, stock)]
    if losses[0].keys() != losses[1].keys():
        raise InputError(f'the losses differ: {", ".join(losses[0])} instead of {", ".join(losses[1])}.')
    total = float(sum(losses[1].values()))
    worst = max(abs(float(losses[0][name] - loss)) for name, loss in losses[1].items()) / total
    return Pair(family, use.config, total, worst, difference(*predictions))


def shrink(model: Any) -> None:
    """Limit blocks, queries, regions and classes of a model, and set the size of padded images to :data:`SIDE`."""
    for node in dicts_in(model):
        if str(node.get('type')).rpartition('.')[2] == 'SwinTransformer':
            node['depths'] = [min(depth, BLOCKS) for depth in node.get('depths', (2, 2, 6, 2))]
        if isinstance(node.get('num_queries'), int):
            node['num_queries'] = min(node['num_queries'], QUERIES)
        if node.get('type') in ('BatchFixedSizePad', 'SegDataPreProcessor') and 'size' in node:
            node['size'] = (SIDE, SIDE)
        if node.get('type') == 'RandomSampler':
            node['num'] = REGIONS
        if 'num_classes' in node:
            node['num_classes'] = min(node['num_classes'], CLASSES)
    for node in dicts_in(model.get('test_cfg') or {}):
        few = dict(score_thr=0.0, nms_pre=REGIONS, max_per_img=REGIONS)
        node.update({name: value for name, value in few.items() if name in node})


def build(model: Any, use: Use, kind: str | None) -> Any:
    """Build a model without pretrained weights, with another type of backbone if ``kind`` is given."""
    model = copy.deepcopy(model)
    for path, node in dicts_with_paths(model, ''):
        if path == use.path and kind is not None:
            node['type'] = kind
        init = node.get('init_cfg')
        if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
            node['init_cfg'] = None
        if node.get('pretrained'):
            node['pretrained'] = None
    return revert_sync_batchnorm(MODELS.build(model))


def batch(model: Any, toolkit: str) -> Any:
    """Return random images with annotations, the same in every call."""
    torch.manual_seed(1)
    if toolkit == 'mmseg':
        return segmentation_batch(model)
    import numpy as np
    from mmdet.testing import demo_mm_inputs, demo_track_inputs

    np.random.seed(1)
    shape = (3, SIDE, SIDE + 32)
    if hasattr(model, 'track_head'):
        return demo_track_inputs(1, FRAMES, [0], shape, with_mask=True)
    masks = model.with_mask or hasattr(model, 'panoptic_head')
    return demo_mm_inputs(IMAGES, shape, with_mask=masks, with_semantic=masks)


def segmentation_batch(model: Any) -> Any:
    """Return random images with label maps."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples, size = [], (SIDE, SIDE)
    channels = model.backbone.patch_embed.projection.in_channels
    for _ in range(IMAGES):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), flip=False))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, *size)))
        samples.append(dict(inputs=torch.randint(0, 256, (channels, *size)), data_samples=sample))
    return pseudo_collate(samples)


def training_losses(model: Any, toolkit: str) -> dict[str, Tensor]:
    """Train for one step; return the losses by name."""
    model.train()
    data = model.data_preprocessor(batch(model, toolkit), True)
    torch.manual_seed(2)
    total, named = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    torch.optim.SGD(trained, lr=RATE).step()
    return {name: value.detach() for name, value in named.items() if name != 'loss' and 'acc' not in name}


def predicted(model: Any, toolkit: str) -> list[Tensor]:
    """Return the scores, logits and labels of a prediction, sorted because random weights give many ties."""
    model.train(False)
    data = model.data_preprocessor(batch(model, toolkit), False)
    with torch.no_grad():
        samples = model(**data, mode='predict')
    return list(values_in(samples))


def values_in(node: Any) -> Iterator[Tensor]:
    """Yield every tensor of scores, logits and label maps in predictions."""
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from values_in(one)
    elif isinstance(node, BaseDataElement):
        for name, value in node.all_items():
            if isinstance(value, Tensor) and name in ('scores', 'data', 'sem_seg') and value.numel():
                yield value.double().flatten().sort().values
            elif not name.startswith('gt') and name != 'ignored_instances':
                yield from values_in(value)


def difference(ours: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return the largest difference, relative to the largest value; infinite if the tensors cannot be compared."""
    if not reference or [one.shape for one in ours] != [one.shape for one in reference]:
        return float('inf')
    pairs = zip(ours, reference, strict=True)
    return max(float((one - other).abs().max() / other.abs().max().clamp_min(1e-12)) for one, other in pairs)


def summary(pairs: Sequence[Pair]) -> str:
    """Summarise all families in one sentence."""
    compared = [pair for pair in pairs if not pair.failure]
    text = f'{sum(pair.equal for pair in pairs)} of {len(pairs)} families equal'
    if compared:
        loss, prediction = max(p.loss_error for p in compared), max(p.prediction_error for p in compared)
        text += f'; largest difference of a loss {loss:.1e}, of a prediction {prediction:.1e}'
    missing = sum(pair.missing for pair in pairs)
    return f'{text}; {missing} need packages or files that were not found.' if missing else f'{text}.'


def as_markdown(pairs: Sequence[Pair]) -> str:
    """Format the section on whole models."""
    text = (
        f'The model with the smallest backbone in every folder of configs, on {IMAGES} random images about {SIDE} '
        f'pixels high (video: one of {FRAMES} frames), with at most {BLOCKS} blocks per stage, {QUERIES} queries, '
        f'{REGIONS} regions and {CLASSES} classes. '
        'Both models have the same weights and seeds, are trained for one step of SGD and then predict. The table '
        'lists the largest difference of a loss, relative to the sum of all losses, and of a score, logit or label, '
        'relative to the largest value.'
    )
    table = markdown_table(HEADER, [pair.cells() for pair in pairs], left=(0, 1, 5))
    return f'### Whole models\n\n{summary(pairs)}\n\n{text}\n\n{table}\n'
