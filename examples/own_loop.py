"""Train in a loop of one's own, in plain torch: `python examples/own_loop.py`; the result can be tagged with."""

import argparse

import torch
from torch.utils.data import DataLoader

from assocformer_hf import (
    AssocFormerForMultiLabel,
    MultiLabelCollator,
    MultiLabelImages,
    Tagger,
    create_image_processor,
    evaluation_transform,
    label_names,
    load_multilabel_dataset,
    multilabel_metrics,
    pixel_scaling,
    training_transform,
)


@torch.inference_mode()
def evaluate(model: AssocFormerForMultiLabel, loader: DataLoader) -> float:
    """Mean average precision, in [0, 1]."""
    model.eval()
    batches = [(model(batch["pixel_values"]).logits.sigmoid(), batch["labels"]) for batch in loader]
    scores, labels = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    return multilabel_metrics(scores, labels)["mAP"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--train_images", type=int, default=4000)
    parser.add_argument("--output", default="outputs/own-loop")
    args = parser.parse_args()

    torch.manual_seed(0)
    dataset = load_multilabel_dataset("scenes")
    names = label_names(dataset["train"])
    processor = create_image_processor(64)
    model = AssocFormerForMultiLabel.from_backbone("tiny-cvt", id2label=dict(enumerate(names)), association_norm="none")
    scale = pixel_scaling(processor)
    train_images = MultiLabelImages(
        dataset["train"].select(range(args.train_images)), training_transform(processor, cutout=0.25, num_ops=1)
    )
    eval_images = MultiLabelImages(dataset["validation"], evaluation_transform(processor))
    collate = MultiLabelCollator(len(names))
    train_loader = DataLoader(train_images, 32, shuffle=True, drop_last=True, collate_fn=collate)
    eval_loader = DataLoader(eval_images, 64, collate_fn=collate)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for epoch in range(args.epochs):
        train_images.set_epoch(epoch)
        model.train()
        for batch in train_loader:
            loss = model(scale(batch["pixel_values"]), labels=batch["labels"]).loss  # eq. 8 and 9
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        print(f"epoch {epoch + 1}  loss {loss.item():.4f}  mAP {100 * evaluate(model, eval_loader):.1f}")

    model.save_pretrained(args.output)
    processor.save_pretrained(args.output)
    print(Tagger(args.output)([dataset["validation"][0]["image"]])[0].labels)


if __name__ == "__main__":
    main()
