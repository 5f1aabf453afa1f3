"""Inference in Python: a detector or segmenter that is called with images and returns arrays."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, DefaultScope

from swin_backbone.engine.checkpoints import choose_source, load_whole, read_whole
from swin_backbone.engine.class_names import fit_to_checkpoint, name_classes
from swin_backbone.engine.config import load_config, set_weights
from swin_backbone.engine.error_explanations import advising, explained
from swin_backbone.engine.exported_model import ExportedModel
from swin_backbone.engine.option_check import require_test
from swin_backbone.engine.prediction import Prediction, prediction_of
from swin_backbone.engine.runner import ignore_warnings
from swin_backbone.engine.submission import without_annotations
from swin_backbone.engine.tta import STOCK_MODELS, innermost, use_tta
from swin_backbone.errors import InputError
from swin_backbone.evaluation.drawing import Image


class Predictor:
    """A detector or segmenter that is called with images, with the test pipeline of its config.

    Everything is built within the toolkit's own registry scope and changes no state of the process, so predictors of
    both toolkits work beside each other.

    Args:
        config: the name of an installed config, the path of a config, or a ``Config``.
        checkpoint: of the whole model: a path, a URL, a published name, or 'released'; or an ONNX file that
            ``swin-backbone export`` wrote. Where it was trained on other classes than the config's, or without masks,
            the model is built as the checkpoint needs it.
        device: such as 'cpu' or 'cuda:1'; by default the first GPU, or the CPU.
        classes: the classes of the model, for a checkpoint that does not name them.
        tta: whether every image is tested at several scales and flips, merged. A two-stage detector averages the scores
            of the views, so that a threshold means what it means without.
        bf16: whether the model is run under autocast to bfloat16.

    Raises:
        InputError: the config cannot be tested, the checkpoint is not one of its model, or there is no such device.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        device: str | None = None,
        classes: Sequence[str] | None = None,
        *,
        tta: bool = False,
        bf16: bool = False,
    ) -> None:
        config = copy.deepcopy(config) if isinstance(config, Config) else load_config(str(config))
        source = choose_source(str(checkpoint), str(config.filename))
        self.device, self.bf16 = choose_device(device), bf16
        with explained(config), advising(source):
            require_test(config, ('test_dataloader',))
            set_weights(config, 'none')
            self.scope = config.get('default_scope', 'mmdet')
            exported = ExportedModel(source) if str(source).endswith('.onnx') else None
            if exported and (tta or bf16):
                raise InputError(f'{source} is exported: test-time augmentation and bfloat16 need a checkpoint.')
            with self._scope():
                content = exported.content if exported else read_whole(source)
                if classes is not None:
                    name_classes(config, list(classes))
                trained_on = fit_to_checkpoint(config, content, classes)
                data_set = copy.deepcopy(innermost(config.test_dataloader.dataset))
                given = data_set.metainfo if classes is not None else None
                self.meta = trained_on or given or DATASETS.build(dict(data_set, lazy_init=True)).metainfo
                if tta:
                    average_scores(config)
                    use_tta(config)
                steps = without_annotations(innermost(config.test_dataloader.dataset).pipeline)
                self.load, self.prepare = Compose(steps[:1]), Compose(steps[1:])
                self.model = revert_sync_batchnorm(MODELS.build(config.model))
                if exported is None:
                    load_whole(self.model.module if tta else self.model, source, content)
        self.model.to(self.device).eval()
        if exported:
            exported.model, self.model = self.model, exported

    @contextmanager
    def _scope(self) -> Iterator[None]:
        with DefaultScope.overwrite_default_scope(self.scope), warnings.catch_warnings():
            ignore_warnings()
            yield

    def __call__(self, images: Any, *, bgr: bool = False, batch_size: int = 1) -> Any:
        """Predict one image, or a list of them.

        Args:
            images: an image, or a list: a path, a PIL image, an array ``[H, W, 3]`` or ``[H, W]`` of uint8, or a tensor
                ``[3, H, W]`` of uint8 or of floats from 0 to 1. Channels are red, green, blue.
            bgr: whether the channels of arrays are blue, green, red, as OpenCV reads them.
            batch_size: how many images go through the model together. Only those of one size after resizing do, so
                that the prediction for an image does not depend on the others.

        Returns:
            A :class:`~swin_backbone.engine.prediction.Prediction`, or a list of them.

        Raises:
            InputError: an image cannot be read, or is of another kind.
        """
        if not isinstance(images, (list, tuple)):
            return self._predict([images], bgr)[0]
        chunks = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        return [found for chunk in chunks for found in self._predict(chunk, bgr)]

    @torch.no_grad()
    def _predict(self, images: Sequence[Any], bgr: bool) -> list[Prediction]:
        """Predict images, those of one size together."""
        with self._scope():
            sources = [Path(image) if isinstance(image, (str, Path)) else as_rgb(image, bgr) for image in images]
            items = [self.prepare(self._read(source)) for source in sources]
            groups: dict[Any, list[int]] = {}
            for index, item in enumerate(items):
                groups.setdefault(shapes_of(item['inputs']), []).append(index)
            samples: dict[int, Any] = {}
            for indices in groups.values():
                batch = pseudo_collate([items[index] for index in indices])
                samples |= dict(zip(indices, self.run_model(batch), strict=True))
        return [prediction_of(samples[index], self.meta, source) for index, source in enumerate(sources)]

    def _read(self, source: Path | Image) -> dict[str, Any]:
        """What the first step of the pipeline, which loads the image, hands to the others."""
        if isinstance(source, Path):
            if not source.is_file():
                raise InputError(f'there is no image {source}: check the path.')
            try:
                return dict(self.load(dict(img_path=str(source), img_id=0)))
            except Exception as error:
                raise InputError(f'{source} cannot be read as an image: check the file.') from error
        image = np.ascontiguousarray(source[..., ::-1])
        if getattr(self.load.transforms[0], 'to_float32', False):
            image = image.astype(np.float32)
        return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], img_path='', img_id=0)

    def run_model(self, batch: dict[str, Any]) -> list[Any]:
        """Run the model on a collated batch of the pipeline; returns the toolkit's data samples with predictions."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return list(self.model.test_step(batch))


def average_scores(config: Config) -> None:
    """Let a two-stage detector merge its views by their mean scores, unless its config says how it merges them.

    Merged as candidates, an object has the score of its best view, and several times as many objects pass a threshold.
    """
    settings = config.model.get('test_cfg') or {}
    stated = (config.get('tta_model') or {}).get('type')
    if (settings.get('rcnn') or {}).get('nms') and (stated is None or stated in STOCK_MODELS):
        config.setdefault('tta_merge', 'proposals')


def shapes_of(inputs: Any) -> Any:
    """The shape of an image, or of its views."""
    return tuple(shapes_of(view) for view in inputs) if isinstance(inputs, list) else tuple(inputs.shape)


def choose_device(name: str | None) -> torch.device:
    """The named device; by default the first GPU, or the CPU.

    Raises:
        InputError: it cannot hold a tensor.
    """
    device = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(
            f'device {name} cannot be used ({reason}): give cpu, or cuda where a GPU is visible.'
        ) from error


def as_rgb(image: Any, bgr: bool = False) -> Image:
    """Convert an image in memory to RGB ``[H, W, 3]`` of uint8.

    Args:
        image: as for :meth:`Predictor.__call__`, except paths.
        bgr: whether the channels of an array are blue, green, red.

    Raises:
        InputError: it is no image of a known kind.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    if isinstance(image, Pillow.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    if isinstance(image, torch.Tensor):
        if image.is_floating_point():
            image = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
        array = image.cpu().numpy().transpose(1, 2, 0) if image.dim() == 3 else image.cpu().numpy()
    else:
        array = image
    if isinstance(array, np.ndarray) and array.ndim == 2:
        array = np.stack([array] * 3, axis=-1)
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        found = f'{array.dtype} {tuple(image.shape)}' if isinstance(array, np.ndarray) else type(image).__name__
        raise InputError(
            f'cannot predict {found}: give a path, a PIL image, an array [H, W, 3] of uint8, or a tensor [3, H, W] of '
            'uint8 or of floats from 0 to 1.'
        )
    return array[..., ::-1] if bgr and isinstance(image, np.ndarray) else array
