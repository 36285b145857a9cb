import csv
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

rows = list(csv.DictReader(open("photos/metadata.csv")))
names = sorted({label for row in rows for label in row["labels"].split("|") if label})
name = "timm/tf_efficientnet_lite0.in1k"
processor = AutoImageProcessor.from_pretrained(name)
model = AutoModelForImageClassification.from_pretrained(
    name,
    num_labels=len(names),
    id2label=dict(enumerate(names)),
    label2id={label: i for i, label in enumerate(names)},
    problem_type="multi_label_classification",
    ignore_mismatched_sizes=True,
)


class Photos(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        image = Image.open(f"photos/{self.rows[i]['file_name']}").convert("RGB")
        present = self.rows[i]["labels"].split("|")
        return {
            "pixel_values": processor(image, return_tensors="pt")["pixel_values"][0],
            "labels": torch.tensor([float(label in present) for label in names]),
        }


cut = len(rows) * 4 // 5
arguments = TrainingArguments(
    "outputs/transformers_resumed",
    num_train_epochs=2,
    per_device_train_batch_size=16,
    learning_rate=1e-3,
    eval_strategy="epoch",
    save_strategy="epoch",
    remove_unused_columns=False,
    report_to="none",
)
trainer = Trainer(model, arguments, train_dataset=Photos(rows[:cut]), eval_dataset=Photos(rows[cut:]))
trainer.train(resume_from_checkpoint=any(Path("outputs/transformers_resumed").glob("checkpoint-*")))
trainer.save_model("outputs/transformers_resumed/model")
processor.save_pretrained("outputs/transformers_resumed/model")
