"""Inference in Python: a detector or segmenter that maps images to arrays."""

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
from swin_backbone.engine.error_explanations import explained, suggesting_config
from swin_backbone.engine.exported_model import ExportedModel
from swin_backbone.engine.option_check import require_test
from swin_backbone.engine.prediction import Prediction, prediction_of
from swin_backbone.engine.runner import ignore_warnings
from swin_backbone.engine.submission import without_annotations
from swin_backbone.engine.tta import STOCK_MODELS, innermost, use_tta
from swin_backbone.errors import InputError
from swin_backbone.evaluation.drawing import Image


class Predictor:
    """A detector or segmenter that is called with images and applies the test pipeline of its config.

    The model is built inside the toolkit's registry scope without changing global state, so predictors of both
    toolkits can be used in one process.

    Args:
        config: the name of an installed config, the path of a config, or a ``Config``.
        checkpoint: the checkpoint of the whole model: a path, a URL, a published name, 'released', or an ONNX file
            written by ``swin-backbone export``. If it was trained on different classes than the config's, or without
            masks, the model is adapted to it.
        device: a device such as 'cpu' or 'cuda:1'; by default the first GPU or, without one, the CPU.
        classes: the classes of the model, if the checkpoint does not contain them.
        tta: whether to merge predictions at several scales and flips. A two-stage detector averages the scores of the
            views, so that score thresholds keep their meaning.
        bf16: whether to run the model under autocast to bfloat16.

    Raises:
        InputError: if the config cannot be tested, the checkpoint belongs to a different model, or the device does not
            exist.
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
        with explained(config), suggesting_config(source):
            require_test(config, ('test_dataloader',))
            set_weights(config, 'none')
            self.scope = config.get('default_scope', 'mmdet')
            exported = ExportedModel(source) if str(source).endswith('.onnx') else None
            if exported and (tta or bf16):
                raise InputError(
                    f'{source} is an exported model: test-time augmentation and bfloat16 need a checkpoint.'
                )
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
        """Predict one image or a list of images.

        Args:
            images: an image or a list of images: paths, PIL images, uint8 arrays ``[H, W, 3]`` or ``[H, W]``, or
                tensors ``[3, H, W]`` of uint8 or of floats from 0 to 1. Channels are in RGB order.
            bgr: whether the channels of arrays are in BGR order, as read by OpenCV.
            batch_size: maximum number of images per batch. Only images of equal size after resizing share a batch, so
                that a prediction does not depend on the other images.

        Returns:
            A :class:`~swin_backbone.engine.prediction.Prediction`, or a list of them for a list of images.

        Raises:
            InputError: if an image cannot be read or has an unsupported type.
        """
        if not isinstance(images, (list, tuple)):
            return self._predict([images], bgr)[0]
        chunks = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        return [found for chunk in chunks for found in self._predict(chunk, bgr)]

    @torch.no_grad()
    def _predict(self, images: Sequence[Any], bgr: bool) -> list[Prediction]:
        """Predict images, batching those of equal size."""
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
        """Load an image like the first step of the pipeline and return its output."""
        if isinstance(source, Path):
            if not source.is_file():
                raise InputError(f'image {source} does not exist: check the path.')
            try:
                return dict(self.load(dict(img_path=str(source), img_id=0)))
            except Exception as error:
                raise InputError(f'{source} cannot be read as an image: check the file.') from error
        image = np.ascontiguousarray(source[..., ::-1])
        if getattr(self.load.transforms[0], 'to_float32', False):
            image = image.astype(np.float32)
        return dict(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], img_path='', img_id=0)

    def run_model(self, batch: dict[str, Any]) -> list[Any]:
        """Run the model on a collated batch of the pipeline and return the toolkit's data samples with predictions."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return list(self.model.test_step(batch))


def average_scores(config: Config) -> None:
    """Make a two-stage detector average the scores of its views, unless the config defines how to merge them.

    If the boxes of all views were merged by NMS instead, an object would get the score of its best view, and several
    times as many objects would exceed a threshold.
    """
    settings = config.model.get('test_cfg') or {}
    stated = (config.get('tta_model') or {}).get('type')
    if (settings.get('rcnn') or {}).get('nms') and (stated is None or stated in STOCK_MODELS):
        config.setdefault('tta_merge', 'proposals')


def shapes_of(inputs: Any) -> Any:
    """Return the shape of an image, or the shapes of its views."""
    return tuple(shapes_of(view) for view in inputs) if isinstance(inputs, list) else tuple(inputs.shape)


def choose_device(name: str | None) -> torch.device:
    """Return the named device; by default the first GPU or, without one, the CPU.

    Raises:
        InputError: if no tensor can be created on the device.
    """
    device = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return torch.empty(1, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip('.')
        raise InputError(f'device {name} cannot be used ({reason}): use cpu, or cuda if a GPU is visible.') from error


def as_rgb(image: Any, bgr: bool = False) -> Image:
    """Convert an image in memory to a uint8 RGB array ``[H, W, 3]``.

    Args:
        image: an image that :meth:`Predictor.__call__` accepts, except paths.
        bgr: whether the channels of an array are in BGR order.

    Raises:
        InputError: if the type, shape or dtype is not supported.
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
            f'cannot predict {found}: give a path, a PIL image, a uint8 array [H, W, 3], or a tensor [3, H, W] of '
            'uint8 or of floats from 0 to 1.'
        )
    return array[..., ::-1] if bgr and isinstance(image, np.ndarray) else array
