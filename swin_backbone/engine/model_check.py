"""Compare the parts of a model with each other and with the data before a run, and try one batch."""

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
"""Of the image that measures the channels of other backbones than ours."""

SAMPLED_SIZES = 200
"""Images whose sizes are read, and of which the smallest and the largest make a batch."""

DIFFERENT_SIZES = ('equal size', 'image size in a batch should be the same')


def check_model(config: Config, loaders: Sequence[str]) -> None:
    """Build the model without memory for its weights, and compare it with itself and with the data of ``loaders``.

    Raises:
        InputError: channels, classes, images or the batch do not fit.
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
    """The model of a config on the meta device, or on the CPU if one of its parts computes while it is built."""
    ignore_warnings()
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        with suppress(Exception), torch.device('meta'):
            return MODELS.build(copy.deepcopy(config.model))
        return MODELS.build(copy.deepcopy(config.model))


def backbone_channels(config: Config, model: nn.Module) -> list[int] | None:
    """The channels of the maps of a backbone; None where they cannot be measured."""
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
        InputError: names the part and the channels that it gets.
    """
    model, giver = config.model, f'model.backbone ({config.model.get("backbone", {}).get("type")})'
    neck = model.get('neck')
    necks = neck if isinstance(neck, (list, tuple)) else [neck] if neck else []
    for index, part in enumerate(necks):
        path = f'model.neck.{index}' if isinstance(neck, (list, tuple)) else 'model.neck'
        wanted = part.get('in_channels')
        if channels is not None and isinstance(wanted, (list, tuple)) and list(wanted) != channels:
            raise InputError(mismatch(config, path, part, wanted, giver, channels))
        if 'out_channels' in part:
            count, width = part.get('num_outs'), part.out_channels
            channels = [width] * count if isinstance(width, int) and isinstance(count, int) else None
            giver = f'{path} ({part.get("type")})'
    for path, head in heads_of(model):
        if channels is not None:
            check_head(config, path, head, giver, channels, bool(necks))


def heads_of(model: Any) -> Iterator[tuple[str, Any]]:
    """The heads that get the maps of a neck or backbone, with their paths."""
    for key in ('decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head', 'panoptic_head', 'head'):
        heads = model.get(key)
        for index, head in enumerate(heads if isinstance(heads, (list, tuple)) else [heads] if heads else []):
            # Of several decode heads, later ones get the output of earlier ones too.
            if not (key == 'decode_head' and index > 0):
                yield f'model.{key}.{index}' if isinstance(heads, (list, tuple)) else f'model.{key}', head


def check_head(config: Config, path: str, head: Any, giver: str, channels: list[int], neck: bool) -> None:
    """Compare the channels that one head expects with those that it gets.

    Raises:
        InputError: they differ, or it asks for a map that there is not.
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
                f'{config.filename}: {path} has in_index={index}, and {giver} gives {len(channels)} maps: choose '
                f'from 0 to {len(channels) - 1}.'
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
        raise InputError(mismatch(config, path, head, wanted, giver, given))


def mismatch(config: Config, path: str, part: Any, wanted: Any, giver: str, given: Any) -> str:
    """The sentence for a part that expects other channels than it gets."""
    shown = list(wanted) if isinstance(wanted, (list, tuple)) else wanted
    return (
        f'{config.filename}: {path} ({part.get("type")}) has in_channels={shown}, and {giver} gives {given}: set '
        f'{path}.in_channels={str(given).replace(" ", "")}.'
    )


def check_image_channels(config: Config, loaders: Sequence[str]) -> None:
    """Compare the channels of the backbone with those of the images that mmcv's own step loads.

    Raises:
        InputError: they differ.
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
                    f'{config.filename}: model.backbone.in_channels is {wanted}, and LoadImageFromFile in {loader} '
                    f"loads {loaded} (color_type='{colour}'): set in_channels={loaded}, or load the images with a step "
                    f'that gives {wanted}.'
                )


def check_head_classes(config: Config, model: nn.Module, loaders: Sequence[str]) -> None:
    """Compare the number of classes of every head with the classes of the data sets, and these with each other.

    Raises:
        InputError: they differ, or a single class would be segmented by a softmax.
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
        if isinstance(number, int) and number != count and not belongs_elsewhere(name, module):
            raise InputError(
                f'{config.filename}: model.{name} has {number} classes, and the data set has {count} '
                f'({shortened(first[1])}): add --classes, or set num_classes={count} in every head.'
            )
    place, most = detection_limit(config, count)
    if place is not None:
        raise InputError(
            f'{config.filename}: {place[1]} in model.test_cfg is {place[0][place[1]]}, and {count} classes give {most} '
            f'pairs of a query and a class: set it to at most {most}.'
        )


def belongs_elsewhere(name: str, module: nn.Module) -> bool:
    """Whether a module has other classes than those of the objects."""
    parts, kind = name.split('.'), type(module).__name__
    if 'RPN' in kind or kind in OTHER_TYPES:
        return True
    return not name or parts[0] == 'backbone' or any(part in OTHER_CLASSES for part in parts)


def pools_to_one(model: nn.Module) -> str:
    """The name of a part that pools an image to one pixel and normalises it over the batch; empty if there is none."""
    across = torch.distributed.is_initialized() and torch.cuda.is_available()
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[0], nn.AdaptiveAvgPool2d):
            norms = [part for rest in module[1:] for part in rest.modules() if isinstance(part, _BatchNorm)]
            if module[0].output_size in (1, (1, 1)) and norms and not (across and isinstance(norms[0], SyncBatchNorm)):
                return name
    return ''


def check_batch(config: Config, pooled: str, batch: int, images: int | None = None) -> None:
    """Refuse batches of one image where a batch norm would get one value per channel.

    Args:
        config: of the run.
        pooled: the part with that norm.
        batch: images per process and iteration.
        images: in the training data, if the last batch of an epoch may be smaller.

    Raises:
        InputError: with what to do.
    """
    if batch > 1 and (images is None or images % batch != 1):
        return
    when = 'train_dataloader.batch_size is 1' if batch == 1 else f'the last batch of {images} images has one image'
    remedy = 'set it to at least 2' if batch == 1 else 'add --cfg-options train_dataloader.drop_last=True'
    raise InputError(
        f'{config.filename}: {when}, and the batch norm in model.{pooled} needs more than one value per channel: '
        f"{remedy}, or give the head norm_cfg=dict(type='GN',num_groups=32)."
    )


def check_sizes(config: Config, loader: str, pooled: str = '') -> None:
    """Send the smallest and the largest of some images through a segmenter's pipeline and into one batch.

    Raises:
        InputError: they do not fit into one.
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
    chosen, names = extremes(data)
    try:
        items = [data[index] for index in chosen]
    except Exception:
        return  # a file that cannot be read; the run names it
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
            f'{config.filename}: {loader} has batches of {batch} images, and images of different sizes, such as '
            f'{names}, cannot be stacked after its pipeline: {remedy}.'
        ) from error


def extremes(data: Any) -> tuple[list[int], str]:
    """The indices of the smallest and the largest of some images of a data set, and their names and sizes."""
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
    """Ends a dry run: everything is built, initialised and loaded, and nothing is trained."""


class TryBatchHook(Hook):
    """Computes the loss of one batch when everything is built and loaded, and ends the run there."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Called by the Runner after the summary.

        Raises:
            RunFailure: the loss is not finite.
            StopBeforeTraining: otherwise.
        """
        model = unwrapped(runner.model)
        model.train()
        batch = next(iter(runner.train_dataloader))
        with runner.optim_wrapper.optim_context(model):
            data = model.data_preprocessor(batch, True)
            loss, parts = model.parse_losses(model._run_forward(data, mode='loss'))
        inputs = data['inputs']
        listed = ', '.join(f'{name} {float(value):.3f}' for name, value in parts.items() if 'loss' in name)
        shape = f' of shape {list(inputs.shape)}' if isinstance(inputs, torch.Tensor) else ''
        if not torch.isfinite(loss):
            raise RunFailure(f'the loss of the first batch is not finite ({listed}): check the weights and the data.')
        runner.logger.info(f'Tried one batch{shape}: {listed}. Nothing was trained (--dry-run).')
        raise StopBeforeTraining


def dry_run(config: Config, recipe_precision: str) -> None:
    """Build and load everything, print the summary, and compute the loss of one batch; trains and saves nothing."""
    runner = build_runner(config)
    runner.register_hook(WholeModelHook(heads=bool(config.get('resume'))))
    runner.register_hook(StartSummaryHook(recipe_precision))
    runner.register_hook(TryBatchHook())
    with suppress(StopBeforeTraining):
        runner.train()
