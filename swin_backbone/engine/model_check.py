"""Checks before a run: whether the parts of a model match each other and the data, and the loss of one batch."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from swin_backbone import SwinTransformer
from swin_backbone.engine.class_check import classes_of, data_set_type, find_data_sets, shortened
from swin_backbone.engine.class_names import OTHER_CLASSES, OTHER_TYPES, check_softmax, detection_limit
from swin_backbone.engine.hooks import WholeModelHook
from swin_backbone.engine.runner import ignore_warnings
from swin_backbone.engine.train import StartSummaryHook, build_runner, unwrapped
from swin_backbone.errors import InputError, RunFailure

SIDE = 64
"""Side in pixels of the image with which the output channels of third-party backbones are measured."""

SAMPLED_SIZES = 200
"""Number of images whose sizes are read to find the smallest and the largest one."""

DIFFERENT_SIZES = ('equal size', 'image size in a batch should be the same')


def check_model(config: Config, loaders: Sequence[str]) -> None:
    """Build the model without allocating its weights, and check its parts against each other and the data.

    Raises:
        InputError: if channels, classes, image sizes or the batch size do not match.
    """
    ignore_warnings()
    model = build_on_meta(config)
    check_channels(config, backbone_channels(config, model))
    check_image_channels(config, loaders)
    check_head_classes(config, model, loaders)
    pooled = pools_to_one(model) if 'train_dataloader' in loaders else ''
    if pooled:
        check_batch(config, pooled, config.train_dataloader.get('batch_size', 1))
    if 'decode_head' in config.model:
        for loader in loaders:
            if config.get(loader):
                check_sizes(config, loader, pooled)


def build_on_meta(config: Config) -> nn.Module:
    """Build the model on the meta device, or on the CPU if its construction needs real tensors."""
    ignore_warnings()
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        with suppress(Exception), torch.device('meta'):
            return MODELS.build(copy.deepcopy(config.model))
        return MODELS.build(copy.deepcopy(config.model))


def backbone_channels(config: Config, model: nn.Module) -> list[int] | None:
    """Return the channels of a backbone's output maps; None if they cannot be determined."""
    backbone = getattr(model, 'backbone', None)
    if isinstance(backbone, SwinTransformer):
        return [backbone.num_features[index] for index in backbone.out_indices]
    if not isinstance(backbone, nn.Module):
        return None
    channels = config.model.backbone.get('in_channels', 3)
    device = next((parameter.device for parameter in backbone.parameters()), torch.device('cpu'))
    with suppress(Exception), torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, channels, SIDE, SIDE, device=device))
        if isinstance(maps, (list, tuple)) and all(isinstance(m, torch.Tensor) and m.dim() == 4 for m in maps):
            return [m.shape[1] for m in maps]
    return None


def check_channels(config: Config, channels: list[int] | None) -> None:
    """Compare the channels of backbone, neck and heads.

    Raises:
        InputError: if they differ; the message names the part and the channels of its input.
    """
    model, source = config.model, f'model.backbone ({config.model.get("backbone", {}).get("type")})'
    neck = model.get('neck')
    necks = neck if isinstance(neck, (list, tuple)) else [neck] if neck else []
    for index, part in enumerate(necks):
        path = f'model.neck.{index}' if isinstance(neck, (list, tuple)) else 'model.neck'
        wanted = part.get('in_channels')
        if channels is not None and isinstance(wanted, (list, tuple)) and list(wanted) != channels:
            raise InputError(mismatch(config, path, part, wanted, source, channels))
        if 'out_channels' in part:
            count, width = part.get('num_outs'), part.out_channels
            channels = [width] * count if isinstance(width, int) and isinstance(count, int) else None
            source = f'{path} ({part.get("type")})'
    for path, head in heads_of(model):
        if channels is not None:
            check_head(config, path, head, source, channels, bool(necks))


def heads_of(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield the heads whose input is the neck or backbone, with their config paths."""
    for key in ('decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head', 'panoptic_head', 'head'):
        heads = model.get(key)
        for index, head in enumerate(heads if isinstance(heads, (list, tuple)) else [heads] if heads else []):
            # In a cascade of decode heads, later heads also get the output of earlier ones.
            if not (key == 'decode_head' and index > 0):
                yield f'model.{key}.{index}' if isinstance(heads, (list, tuple)) else f'model.{key}', head


def check_head(config: Config, path: str, head: Any, source: str, channels: list[int], neck: bool) -> None:
    """Compare the channels that a head expects with those of its input.

    Raises:
        InputError: if they differ, or ``in_index`` is out of range.
    """
    wanted, index = head.get('in_channels'), head.get('in_index')
    wanted = list(wanted) if isinstance(wanted, (list, tuple)) else wanted
    if 'decode_head' in config.model:
        if isinstance(wanted, list):
            index = list(range(len(wanted))) if index is None else index
        else:
            index = -1 if index is None else index
        indices = index if isinstance(index, (list, tuple)) else [index]
        if any(not -len(channels) <= one < len(channels) for one in indices):
            raise InputError(
                f'{config.filename}: {path} has in_index={index}, but {source} has {len(channels)} output maps: use '
                f'indices from 0 to {len(channels) - 1}.'
            )
        given: Any = [channels[one] for one in indices]
        if isinstance(wanted, int) and len(given) == 1:
            given = given[0]
    elif isinstance(wanted, int):
        if not neck or len(set(channels)) > 1:
            return
        given = channels[0]
    else:
        given = channels
    if isinstance(wanted, (int, list)) and wanted != given:
        raise InputError(mismatch(config, path, head, wanted, source, given))


def mismatch(config: Config, path: str, part: Any, wanted: Any, source: str, given: Any) -> str:
    """Return the message for a part whose ``in_channels`` differ from its input."""
    shown = list(wanted) if isinstance(wanted, (list, tuple)) else wanted
    return (
        f'{config.filename}: {path} ({part.get("type")}) has in_channels={shown}, but {source} outputs {given} '
        f'channels: set {path}.in_channels={str(given).replace(" ", "")}.'
    )


def check_image_channels(config: Config, loaders: Sequence[str]) -> None:
    """Compare the input channels of the backbone with those of the images loaded by ``LoadImageFromFile``.

    Raises:
        InputError: if they differ.
    """
    wanted = config.model.get('backbone', {}).get('in_channels')
    for loader in loaders:
        for data_set in find_data_sets(config, (loader,)):
            steps = [step for step in data_set.get('pipeline') or () if isinstance(step, dict)]
            loading = next((step for step in steps if str(step.get('type')).rpartition('.')[2].startswith('Load')), {})
            colour = loading.get('color_type', 'color')
            loaded = {'color': 3, 'color_ignore_orientation': 3, 'grayscale': 1}.get(colour)
            plain = str(loading.get('type')).rpartition('.')[2] == 'LoadImageFromFile'
            if plain and loaded is not None and isinstance(wanted, int) and wanted != loaded:
                raise InputError(
                    f'{config.filename}: model.backbone.in_channels is {wanted}, but LoadImageFromFile in {loader} '
                    f"loads {loaded} (color_type='{colour}'): set in_channels={loaded}, or use a loading step that "
                    f'returns {wanted} channels.'
                )


def check_head_classes(config: Config, model: nn.Module, loaders: Sequence[str]) -> None:
    """Check that all data sets have the same classes and every head has their number.

    Raises:
        InputError: if they differ, or a single class would be segmented by a softmax.
    """
    first: tuple[str, tuple[str, ...]] | None = None
    for loader in loaders:
        for data_set in find_data_sets(config, (loader,)):
            kind = data_set_type(config, data_set)
            if kind is None or 'thing_classes' in getattr(kind, 'METAINFO', {}):
                return
            classes = classes_of(data_set, kind, f'{config.filename}: {loader}')
            first = first or (loader, classes)
            if classes != first[1]:
                raise InputError(
                    f'{config.filename}: {first[0]} has the classes {shortened(first[1])} and {loader} has '
                    f'{shortened(classes)}: give every data set the same metainfo.'
                )
    if first is None or not first[1] or hasattr(model, 'language_model'):
        return
    count = len(first[1])
    if 'decode_head' in config.model:
        check_softmax(config, count)
    for name, module in model.named_modules():
        number = getattr(module, 'num_classes', None)
        if isinstance(number, int) and number != count and not has_other_classes(name, module):
            raise InputError(
                f'{config.filename}: model.{name} has {number} classes, but the data set has {count} '
                f'({shortened(first[1])}): add --classes, or set num_classes={count} in every head.'
            )
    place, most = detection_limit(config, count)
    if place is not None:
        raise InputError(
            f'{config.filename}: {place[1]} in model.test_cfg is {place[0][place[1]]}, but with {count} classes there '
            f'are only {most} pairs of a query and a class: set it to at most {most}.'
        )


def has_other_classes(name: str, module: nn.Module) -> bool:
    """Return whether the ``num_classes`` of a module do not refer to the object classes."""
    parts, kind = name.split('.'), type(module).__name__
    if 'RPN' in kind or kind in OTHER_TYPES:
        return True
    return not name or parts[0] == 'backbone' or any(part in OTHER_CLASSES for part in parts)


def pools_to_one(model: nn.Module) -> str:
    """Return the name of a module with batch norm after pooling to 1x1; empty if there is none."""
    across = torch.distributed.is_initialized() and torch.cuda.is_available()
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[0], nn.AdaptiveAvgPool2d):
            norms = [part for rest in module[1:] for part in rest.modules() if isinstance(part, _BatchNorm)]
            if module[0].output_size in (1, (1, 1)) and norms and not (across and isinstance(norms[0], SyncBatchNorm)):
                return name
    return ''


def check_batch(config: Config, pooled: str, batch: int, images: int | None = None) -> None:
    """Check that no batch has a single image, for which a batch norm after pooling gets one value per channel.

    Args:
        config: the config of the run.
        pooled: name of the module with that norm.
        batch: images per process and iteration.
        images: number of training images, if the last batch of an epoch may be smaller.

    Raises:
        InputError: if there is such a batch; the message has the option to change.
    """
    if batch > 1 and (images is None or images % batch != 1):
        return
    when = 'train_dataloader.batch_size is 1' if batch == 1 else f'the last batch of {images} images has a single one'
    remedy = 'set it to at least 2' if batch == 1 else 'add --cfg-options train_dataloader.drop_last=True'
    raise InputError(
        f'{config.filename}: {when}, but the batch norm in model.{pooled} needs more than one value per channel: '
        f"{remedy}, or set norm_cfg=dict(type='GN',num_groups=32) in the head."
    )


def check_sizes(config: Config, loader: str, pooled: str = '') -> None:
    """Check that the smallest and the largest image can be stacked into a batch after a segmenter's pipeline.

    Raises:
        InputError: if their sizes differ after the pipeline.
    """
    options = config[loader]
    training, batch = loader == 'train_dataloader', options.get('batch_size', 1)
    if batch < 2:
        return
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmseg')):
        data = DATASETS.build(copy.deepcopy(options.dataset))
        preprocess = MODELS.build(
            copy.deepcopy(config.model.get('data_preprocessor') or dict(type='BaseDataPreprocessor'))
        )
    sampler = str((options.get('sampler') or {}).get('type', 'DefaultSampler'))
    if training and pooled and sampler.endswith('DefaultSampler') and not options.get('drop_last'):
        check_batch(config, pooled, batch, len(data))
    chosen, names = smallest_and_largest(data)
    try:
        items = [data[index] for index in chosen]
    except Exception:
        return  # unreadable files are reported by the run
    try:
        preprocess(pseudo_collate(items), training)
    except (RuntimeError, AssertionError) as error:
        if not any(words in str(error) for words in DIFFERENT_SIZES):
            raise
        remedy = (
            "end the pipeline's geometric steps with dict(type='RandomCrop', crop_size=(H, W)) and set "
            'model.data_preprocessor.size=(H, W)'
            if training
            else f'set {loader}.batch_size=1'
        )
        raise InputError(
            f'{config.filename}: {loader} has a batch size of {batch}, but images of different sizes, such as {names}, '
            f'cannot be stacked after its pipeline: {remedy}.'
        ) from error


def smallest_and_largest(data: Any) -> tuple[list[int], str]:
    """Return the indices of the smallest and largest of :data:`SAMPLED_SIZES` images, and their names and sizes."""
    from PIL import Image

    sizes = {}
    for index in range(0, len(data), max(1, len(data) // SAMPLED_SIZES)):
        with suppress(OSError, KeyError), Image.open(data.get_data_info(index)['img_path']) as image:
            sizes[index] = image.size
    ordered = sorted(sizes, key=lambda index: sizes[index])
    chosen = [ordered[0], ordered[-1]] if len(ordered) > 1 else [*ordered, *ordered]
    paths = [str(data.get_data_info(index)['img_path']).rpartition('/')[2] for index in chosen]
    return chosen, ' and '.join(
        f'{path} ({sizes[index][0]}x{sizes[index][1]})' for path, index in zip(paths, chosen, strict=True)
    )


class StopBeforeTraining(Exception):
    """Raised to end a dry run after everything is built and loaded, before the first training step."""


class TryBatchHook(Hook):
    """Computes the loss of one batch after everything is built and loaded, and ends the run."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Compute the loss of the first batch.

        Raises:
            RunFailure: if the loss is not finite.
            StopBeforeTraining: otherwise.
        """
        model = unwrapped(runner.model)
        model.train()
        batch = next(iter(runner.train_dataloader))
        with runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(batch, True)
            loss, parts = model.parse_losses(model._run_forward(data, mode='loss'))
        inputs = data['inputs']
        listed = ', '.join(f'{name} {value.item():.3f}' for name, value in parts.items() if 'loss' in name)
        shape = f' of shape {list(inputs.shape)}' if isinstance(inputs, torch.Tensor) else ''
        if not torch.isfinite(loss):
            raise RunFailure(f'the loss of the first batch is not finite ({listed}): check the weights and the data.')
        runner.logger.info(f'Tried one batch{shape}: {listed}. Nothing was trained (--dry-run).')
        raise StopBeforeTraining


def dry_run(config: Config, recipe_precision: str) -> None:
    """Build and load everything, print the summary and compute the loss of one batch, without training or saving."""
    runner = build_runner(config)
    runner.register_hook(WholeModelHook(heads=bool(config.get('resume'))))
    runner.register_hook(StartSummaryHook(recipe_precision))
    runner.register_hook(TryBatchHook())
    with suppress(StopBeforeTraining):
        runner.train()
