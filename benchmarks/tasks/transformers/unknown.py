import csv

import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

rows = list(csv.DictReader(open("partial/metadata.csv")))
names = [name for name in rows[0] if name != "file_name"]
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
        image = Image.open(f"partial/{self.rows[i]['file_name']}").convert("RGB")
        return {
            "pixel_values": processor(image, return_tensors="pt")["pixel_values"][0],
            "labels": torch.tensor([float(self.rows[i][label] or -1) for label in names]),
        }


def known_loss(outputs, labels, num_items_in_batch=None):
    losses = binary_cross_entropy_with_logits(outputs.logits, labels.clamp(min=0), reduction="none")
    return losses[labels >= 0].mean()


cut = len(rows) * 4 // 5
arguments = TrainingArguments(
    "outputs/transformers_partial",
    num_train_epochs=1,
    per_device_train_batch_size=16,
    learning_rate=1e-3,
    eval_strategy="epoch",
    save_strategy="epoch",
    remove_unused_columns=False,
    report_to="none",
)
trainer = Trainer(
    model,
    arguments,
    train_dataset=Photos(rows[:cut]),
    eval_dataset=Photos(rows[cut:]),
    compute_loss_func=known_loss,
)
trainer.train()
trainer.save_model("outputs/transformers_partial/model")
processor.save_pretrained("outputs/transformers_partial/model")
