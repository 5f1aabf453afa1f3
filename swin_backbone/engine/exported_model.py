"""A whole model that was exported to an ONNX file, in the place of the model of the toolkit."""

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
"""Outputs of whole models."""


class ExportedModel:
    """An ONNX file in the place of the model that it was exported from.

    Images are padded as the toolkit pads them. A detector clips boxes to the padded image, and here to the image.

    Args:
        file: what ``swin-backbone export`` wrote, without ``--backbone`` and ``--raw``.

    Raises:
        InputError: onnxruntime is missing, or the file is no whole model.
    """

    def __init__(self, file: str | Path) -> None:
        require('onnxruntime')
        import onnxruntime

        available = onnxruntime.get_available_providers()
        wanted = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        try:
            self.session = onnxruntime.InferenceSession(str(file), providers=[n for n in wanted if n in available])
        except Exception as error:  # onnxruntime raises many types
            raise InputError(f'{file} is no ONNX file that onnxruntime can load: check the path.') from error
        self.outputs = [output.name for output in self.session.get_outputs()]
        if tuple(self.outputs) not in PARTS:
            raise InputError(
                f'{file} has the outputs {", ".join(self.outputs)}: predict needs a whole detector or segmenter, which '
                'swin-backbone export writes without --backbone and --raw.'
            )
        self.model: Any = None

    @property
    def content(self) -> dict[str, Any]:
        """What a checkpoint of this model would say about its classes and masks."""
        written = self.session.get_modelmeta().custom_metadata_map.get('dataset_meta', '{}')
        state = {'roi_head.mask_head': None} if 'masks' in self.outputs else {}
        return dict(meta=dict(dataset_meta=json.loads(written)), state_dict=state)

    @torch.no_grad()
    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """Predict a collated batch of the toolkit's pipeline, images of one size."""
        model = self.model
        batch = model.data_preprocessor(data, False)
        samples, inputs = batch['data_samples'], batch['inputs']
        # The graph normalises. Padding, which is 0 here, is an average pixel there.
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
        """The objects in one image, in its original size."""
        height, width = meta['img_shape'][:2]
        real = found['scores'] > 0
        boxes = found['boxes'][real].clamp(min=0).minimum(torch.tensor([width, height, width, height]))
        boxes = boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)
        results = InstanceData(bboxes=boxes, scores=found['scores'][real], labels=found['labels'][real])
        if 'masks' in found:
            heads = self.model.roi_head.mask_head
            head: Any = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
            # The head picks the mask of the object's class, which is the only one in the file.
            grids = found['masks'][real][:, None].expand(-1, head.num_classes, -1, -1)
            if len(boxes):
                cfg = self.model.test_cfg.rcnn
                head.predict_by_feat([grids], [results], [meta], cfg, rescale=True, activate_map=True)
            else:
                results.masks = torch.zeros((0, *meta['ori_shape'][:2]), dtype=torch.bool)
        return results
