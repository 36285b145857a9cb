"""A head start: the head alone is trained on the features of a pretrained backbone before both are trained together."""

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.model.losses import asymmetric_loss
from assocformer_hf.progress import progress_bar
from assocformer_hf.training.optimization import create_optimizer, create_scheduler
from assocformer_hf.training.sampling import derived_seed

# The best of a sweep over heads on frozen features of photographs: docs/photographs.md.
BATCH_SIZE = 64
LEARNING_RATE = 4e-3
LEAST_STEPS = 400  # decay and gradient take about a hundred steps to balance, however few the images are


def train_head(
    model: PreTrainedModel,
    images: MultiLabelImages,
    loader: DataLoader,
    accelerator: Accelerator,
    epochs: int,
    weight_decay: float,
    seed: int = 0,
) -> None:
    """Trains the head, with the backbone as it is; called by every process, which all end with the same head.

    A head with random weights sends gradients into the backbone that destroy what it knows (Kumar et al., Fine-Tuning
    can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022). The backbone runs once over the
    images, so that this costs about a third of an epoch.

    Args:
        model: AssocFormer with a pretrained backbone, on the accelerator's device, not prepared; changed in place.
        images: the training images; their `scale` is applied.
        loader: of the images, prepared by the accelerator, without an order of its own.
        accelerator: devices, precision and processes.
        epochs: passes over the features; more of them where these are fewer than 400 steps of 64 images.
        weight_decay: of the head's weights, decoupled.
        seed: of the order of the images.
    """
    features, means, labels = _features(model, images, loader, accelerator)
    head, config = model.head, model.config
    head.train()
    optimizer = create_optimizer(head, LEARNING_RATE, weight_decay)
    steps = -(-len(features) // BATCH_SIZE)
    epochs = max(epochs, -(-LEAST_STEPS // steps))
    scheduler = create_scheduler(optimizer, epochs * steps)
    for epoch in range(epochs):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(derived_seed(seed, epoch)))
        for chosen in order.split(BATCH_SIZE):
            pooled, target = (part[chosen].to(accelerator.device) for part in (features, labels))
            # An image that is one place: the attention then has nothing to choose from.
            feature_map = None if means is None else means[chosen].unsqueeze(1).to(accelerator.device)
            logits = head(pooled, feature_map=feature_map).logits
            asymmetric_loss(logits, target, config.gamma_pos, config.gamma_neg, config.clip).backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
    for parameter in head.parameters():
        broadcast(parameter.data)


@torch.no_grad()
def _features(
    model: PreTrainedModel, images: MultiLabelImages, loader: DataLoader, accelerator: Accelerator
) -> tuple[Tensor, Tensor | None, Tensor]:
    """L of every training image `(images, d)`, the mean of its feature map `(images, d)`, None where the head does not
    read that, and its labels `(images, labels)`; on the CPU of every process."""
    model.eval()
    found = []
    for batch in progress_bar(loader, accelerator.is_main_process, desc="head start", unit="batches"):
        with accelerator.autocast():
            pooled, places = model.head_inputs(images.scale(batch["pixel_values"]))
        parts = [pooled.float(), batch["labels"]] + ([] if places is None else [places.mean(1).float()])
        found.append([part.cpu() for part in accelerator.gather_for_metrics(parts)])
    features, labels, *means = (torch.cat(part) for part in zip(*found, strict=True))
    return features, means[0] if means else None, labels
