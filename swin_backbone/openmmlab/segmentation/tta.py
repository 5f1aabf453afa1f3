"""Test-time augmentation of segmenters."""

from typing import Any

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from swin_backbone.registry import MODELS


@MODELS.register_module()
class SegmentationTTAModel(BaseTTAModel):
    """Test-time augmentation that averages class probabilities over views, as for the papers' multi-scale scores.

    Differences to MMSegmentation's own class: views are summed one at a time, so that memory does not grow with their
    number; the sample of the first view is returned; and for a single view the result is exactly its prediction, even
    if rounding makes the probabilities of two classes equal.
    """

    def test_step(self, data: Any) -> list[SegDataSample]:
        """Test every view and merge; ``data`` is a batch of ``TestTimeAug``."""
        views = [dict(zip(data, view, strict=True)) for view in zip(*data.values(), strict=True)]
        samples = self.module.test_step(views[0])
        if len(views) == 1:
            return samples
        totals = [self.probabilities(sample) for sample in samples]
        for view in views[1:]:
            for total, sample in zip(totals, self.module.test_step(view), strict=True):
                total += self.probabilities(sample)
        return [self.decide(*pair, len(views)) for pair in zip(samples, totals, strict=True)]

    def probabilities(self, sample: SegDataSample) -> Tensor:
        """Return the probabilities of one view at the size of the image, ``[classes, H, W]`` or ``[1, H, W]``."""
        scores = sample.seg_logits.data
        # A segmenter with one output channel already returns its probability.
        return scores.softmax(dim=0) if self.module.out_channels > 1 else scores.clone()

    def decide(self, sample: SegDataSample, total: Tensor, views: int) -> SegDataSample:
        """Store mean probabilities and predicted classes in the sample."""
        mean = total / views
        if self.module.out_channels > 1:
            labels = mean.argmax(dim=0, keepdim=True)
        else:
            labels = (mean > self.module.decode_head.threshold).to(mean)
        sample.set_data({'seg_logits': PixelData(data=mean), 'pred_sem_seg': PixelData(data=labels)})
        return sample

    def merge_preds(self, data_samples_list: Any) -> list[SegDataSample]:
        """Raise NotImplementedError: views are merged one at a time by :meth:`test_step`."""
        raise NotImplementedError('views are merged in test_step')
