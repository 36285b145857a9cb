# note: on a ResNet-18 from random weights: with EfficientNet-Lite0 "mat1 and mat2 shapes cannot be multiplied"
import csv

import lightly_train

if __name__ == "__main__":
    rows = list(csv.DictReader(open("photos/metadata.csv")))
    names = sorted({label for row in rows for label in row["labels"].split("|") if label})
    cut = len(rows) * 4 // 5
    for split, part in (("train", rows[:cut]), ("val", rows[cut:])):
        with open(f"photos/{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "labels"])
            writer.writeheader()
            writer.writerows(part)
    lightly_train.train_image_classification(
        out="outputs/lightly",
        model="timm/resnet18",
        data={
            "train": "photos/train.csv",
            "val": "photos/val.csv",
            "classes": dict(enumerate(names)),
            "csv_image_column": "file_name",
            "csv_label_column": "labels",
            "label_delimiter": "|",
        },
        classification_task="multilabel",
        steps=cut // 16,
        batch_size=16,
        transform_args={"image_size": (224, 224)},
        precision="32-true",
    )
