"""Prediction with a whole model that was exported to an ONNX file."""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData
from torch import Tensor

from swin_backbone.errors import InputError
from swin_backbone.export import require

PARTS = {('boxes', 'scores', 'labels'), ('boxes', 'scores', 'labels', 'masks'), ('logits', 'labels')}
"""Output names of exported whole models."""


class ExportedModel:
    """An ONNX file that replaces the toolkit model it was exported from.

    Images are padded like in the toolkit. Boxes are clipped to the image rather than to the padded image.

    Args:
        file: a file written by ``swin-backbone export`` without ``--backbone`` and ``--raw``.

    Raises:
        InputError: if onnxruntime is not installed, or the file is not a whole model.
    """

    def __init__(self, file: str | Path) -> None:
        require('onnxruntime')
        import onnxruntime

        available = onnxruntime.get_available_providers()
        wanted = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        try:
            self.session = onnxruntime.InferenceSession(str(file), providers=[n for n in wanted if n in available])
        except Exception as error:  # onnxruntime raises many types
            raise InputError(f'{file} is not an ONNX file that onnxruntime can load: check the path.') from error
        self.outputs = [output.name for output in self.session.get_outputs()]
        if tuple(self.outputs) not in PARTS:
            raise InputError(
                f'{file} has the outputs {", ".join(self.outputs)}, but predict needs a whole detector or segmenter: '
                'export it without --backbone and --raw.'
            )
        self.model: Any = None

    @property
    def content(self) -> dict[str, Any]:
        """Metadata in the form of a checkpoint: the classes, and whether there is a mask head."""
        written = self.session.get_modelmeta().custom_metadata_map.get('dataset_meta', '{}')
        state = {'roi_head.mask_head': None} if 'masks' in self.outputs else {}
        return dict(meta=dict(dataset_meta=json.loads(written)), state_dict=state)

    @torch.no_grad()
    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """Predict a collated batch of the toolkit's pipeline with images of equal size."""
        model = self.model
        batch = model.data_preprocessor(data, False)
        samples, inputs = batch['data_samples'], batch['inputs']
        # The graph normalises its input, so the normalisation is undone; padding of 0 becomes the mean pixel.
        preprocessor = model.data_preprocessor
        pixels = inputs * preprocessor.std + preprocessor.mean if hasattr(preprocessor, 'mean') else inputs
        found = self.session.run(self.outputs, {'image': pixels.cpu().numpy()})
        tensors = dict(zip(self.outputs, map(torch.from_numpy, found), strict=True))
        if 'logits' in tensors:
            logits = F.interpolate(
                tensors['logits'], inputs.shape[2:], mode='bilinear', align_corners=model.align_corners
            )
            return list(model.postprocess_result(logits, samples))
        for index, sample in enumerate(samples):
            sample.pred_instances = self.instances(
                {key: value[index] for key, value in tensors.items()}, sample.metainfo
            )
        return list(samples)

    def instances(self, found: dict[str, Tensor], meta: dict[str, Any]) -> InstanceData:
        """Return the objects in one image, scaled to its original size."""
        height, width = meta['img_shape'][:2]
        real = found['scores'] > 0
        boxes = found['boxes'][real].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        boxes = boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)
        results = InstanceData(bboxes=boxes, scores=found['scores'][real], labels=found['labels'][real])
        if 'masks' in found:
            heads = self.model.roi_head.mask_head
            head: Any = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
            # The head selects the mask of the object's class, but the file contains no others.
            grids = found['masks'][real][:, None].expand(-1, head.num_classes, -1, -1)
            if len(boxes):
                cfg = self.model.test_cfg.rcnn
                head.predict_by_feat([grids], [results], [meta], cfg, rescale=True, activate_map=True)
            else:
                results.masks = torch.zeros((0, *meta['ori_shape'][:2]), dtype=torch.bool)
        return results
