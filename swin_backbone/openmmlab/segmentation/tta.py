"""Testing segmenters in several sizes and flips."""

from typing import Any

from mmengine.model import BaseTTAModel
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from swin_backbone.registry import MODELS


@MODELS.register_module()
class SegmentationTTAModel(BaseTTAModel):
    """The mean of the class probabilities of several views of an image, as for the papers' multi-scale scores.

    In place of MMSegmentation's own: it adds the views up one after the other, so that memory does not grow with their
    number; it returns the sample of the first view; and a single view is its plain prediction, also where rounding
    makes the probabilities of two classes equal that were not.
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
        """``[classes, H, W]`` of one view at the size of the image; ``[1, H, W]`` of a single class."""
        scores = sample.seg_logits.data
        # A segmenter with one output returns its probability already.
        return scores.softmax(dim=0) if self.module.out_channels > 1 else scores.clone()

    def decide(self, sample: SegDataSample, total: Tensor, views: int) -> SegDataSample:
        """Put mean probabilities and the classes that follow from them into the sample."""
        mean = total / views
        if self.module.out_channels > 1:
            labels = mean.argmax(dim=0, keepdim=True)
        else:
            labels = (mean > self.module.decode_head.threshold).to(mean)
        sample.set_data({'seg_logits': PixelData(data=mean), 'pred_sem_seg': PixelData(data=labels)})
        return sample

    def merge_preds(self, data_samples_list: Any) -> list[SegDataSample]:
        """Not used: views are merged while they come."""
        raise NotImplementedError('views are merged in test_step')
