"""Training on mixtures: MixUp and CutMix of a batch with itself, and label smoothing. The labels become soft."""

import torch
from torch import Tensor
from torchvision.transforms import v2


class Mixing:
    """Mixes the images of a batch with one another, and their labels in the same proportion.

    A label that is unknown (-1) for one of two images is unknown for their mixture. Randomness comes from torch's
    global generator.

    Args:
        mixup: alpha of MixUp's Beta distribution; 0 for none.
        cutmix: alpha of CutMix's; 0 for none. With both, each batch takes one of them by chance.
        label_smoothing: how far labels move from 0 and 1 towards a half, in [0, 1).

    Source: Zhang et al., mixup, ICLR 2018; Yun et al., CutMix, ICCV 2019; torchvision's transforms.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, label_smoothing: float = 0.0):
        self.kinds = [(kind, alpha) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha]
        self.label_smoothing = label_smoothing

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images `(batch, 3, height, width)` and labels `(batch, labels)`, 1, 0 or -1, to mixtures in [0, 1] or -1."""
        if not self.kinds and not self.label_smoothing:
            return images, labels
        unknown = (labels < 0).float()
        soft = labels.clamp(min=0) * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.kinds:
            kind, alpha = self.kinds[int(torch.randint(len(self.kinds), ()))]
            # Whether a label is unknown is mixed too, and tells afterwards where an unknown one had a part.
            both = torch.cat([soft, unknown], dim=1)
            images, both = kind(alpha=alpha, num_classes=both.shape[1])(images, both)
            soft, unknown = both.chunk(2, dim=1)
        return images, torch.where(unknown > 0, -1.0, soft)
