"""Train with `transformers.Trainer`: `python examples/transformers_trainer.py`; what it saves can be tagged with."""

import argparse

from scipy.special import expit
from torchvision.transforms import v2
from transformers import EvalPrediction, Trainer, TrainerCallback, TrainingArguments

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


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """mAP, F1 by label and over all; of logits `(images, labels)`, and labels of 1, 0 and -1 for unknown."""
    found = multilabel_metrics(expit(prediction.predictions), prediction.label_ids, threshold=0.5)
    return {name: found[name] for name in ("mAP", "CF1", "OF1")}


class NewAugmentation(TrainerCallback):
    """Draws the augmentation anew for every epoch: on several processes nothing else tells the images which it is."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """Called by the Trainer."""
        train_dataloader.dataset.set_epoch(int(state.epoch))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="scenes", help="what load_multilabel_dataset reads")
    parser.add_argument("--backbone", default="tiny-cvt", help="a preset, a folder or a Hub id")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--train_images", type=int, help="at most so many")
    parser.add_argument("--output", default="outputs/trainer")
    args = parser.parse_args()

    dataset = load_multilabel_dataset(args.dataset)
    train = dataset["train"].select(range(min(args.train_images or len(dataset["train"]), len(dataset["train"]))))
    names = label_names(train)
    processor = create_image_processor(args.image_size)
    augment = v2.Compose([training_transform(processor, cutout=0.25, num_ops=1), pixel_scaling(processor)])
    model = AssocFormerForMultiLabel.from_backbone(
        args.backbone, image_size=args.image_size, id2label=dict(enumerate(names)), association_norm="none"
    )
    trainer = Trainer(
        model,
        TrainingArguments(
            args.output,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            lr_scheduler_type="cosine",
            eval_strategy="epoch",
            label_names=["labels"],
            remove_unused_columns=False,  # the images are no columns of the model yet
            report_to="none",
        ),
        train_dataset=MultiLabelImages(train, augment),
        eval_dataset=MultiLabelImages(dataset["validation"], evaluation_transform(processor)),
        data_collator=MultiLabelCollator(len(names)),
        processing_class=processor,
        compute_metrics=compute_metrics,
        callbacks=[NewAugmentation()],
    )
    trainer.train()
    trainer.save_model()
    print(trainer.evaluate())
    for image in Tagger(args.output)([example["image"] for example in dataset["validation"].select(range(3))]):
        print(image.name, ", ".join(image.labels))


if __name__ == "__main__":
    main()
