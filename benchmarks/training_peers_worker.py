"""One training of `benchmarks.training_peers`, in a process of its own: `python training_peers_worker.py SETTINGS`.

Runs in any environment that has the package named in the settings, and imports nothing of this repository but for our
own side. SETTINGS is a JSON file; beside it `result.json` and `scores.npy` are left.
"""

import csv
import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

STEPS: list[float] = []  # when each optimizer step of the whole network was done


def note_step(optimizer: torch.optim.Optimizer, *_):
    """A step of the network; a head that is trained alone has few tensors."""
    if sum(len(group["params"]) for group in optimizer.param_groups) > 30:
        STEPS.append(time.time())


def read_rows(folder: Path, split: str) -> list[tuple[str, list[str]]]:
    with (folder / f"{split}.csv").open(newline="") as file:
        return [(str(folder / row["image_path"]), row["label"].split("|")) for row in csv.DictReader(file)]


def timm_model(settings: dict, labels: int) -> torch.nn.Module:
    """The backbone with a linear layer, as all but ours train it."""
    import timm

    model = timm.create_model(settings["architecture"], num_classes=labels, **settings["timm_arguments"])
    weights = torch.load(settings["weights"])
    own = model.state_dict()
    model.load_state_dict({n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}, strict=False)
    return model


class Photographs(torch.utils.data.Dataset):
    """Files and multi-hot labels for a loop that brings no reader of its own."""

    def __init__(self, rows, names: list[str], mean: list[float], std: list[float], train: bool):
        from torchvision.transforms import v2

        self.rows, self.index = rows, {name: i for i, name in enumerate(names)}
        flip = [v2.RandomHorizontalFlip()] if train else []
        scale = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
        self.transform = v2.Compose([*flip, *scale])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict:
        from PIL import Image

        labels = torch.zeros(len(self.index))
        labels[[self.index[name] for name in self.rows[i][1]]] = 1
        return {"pixel_values": self.transform(Image.open(self.rows[i][0]).convert("RGB")), "labels": labels}


def assocformer(settings: dict, folder: Path, names: list[str], head_start: bool = True):
    """Our recipe for photographs, with the augmentation that all have."""
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

    from assocformer_hf import train
    from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
    from assocformer_hf.data.images.transforms import evaluation_transform
    from assocformer_hf.data.load import load_multilabel_dataset
    from assocformer_hf.evaluation.evaluator import evaluate

    dataset = load_multilabel_dataset(folder / "metadata.csv", label_names=names)
    options = {} if head_start and settings["pretrained"] else {"head_epochs": 0}
    if not settings["pretrained"]:
        options |= {
            "frozen_batch_norm": False, "learning_rate": 1e-3, "backbone_learning_rate": 1e-3, "weight_decay": 0.01,
        }  # fmt: skip
    result = train(
        dataset, config="photographs", backbone=settings["folder"], image_size=settings["image_size"],
        epochs=settings["epochs"], batch_size=settings["batch_size"], num_workers=settings["num_workers"],
        randaugment_ops=0, seed=settings["seed"], output_dir=settings["output"], report_to="none", **options,
    )  # fmt: skip
    images = MultiLabelImages(dataset["validation"], evaluation_transform(result.processor))
    collator = MultiLabelCollator(len(names), with_index=True)
    loader = DataLoader(images, 2 * settings["batch_size"], collate_fn=collator, num_workers=settings["num_workers"])
    accelerator = Accelerator(cpu=True)
    model, loader = result.model.eval(), accelerator.prepare(loader)
    return lambda: evaluate({"model": model}, loader, accelerator)["model"].scores


def trainer(settings: dict, folder: Path, names: list[str]):
    """`transformers.Trainer` with `TimmWrapperForImageClassification`, its own schedule and optimizer."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, Trainer, TrainingArguments

    config = TimmWrapperConfig(
        architecture=settings["architecture"], num_labels=len(names), model_args=settings["timm_arguments"] or None,
        problem_type="multi_label_classification",
    )  # fmt: skip
    model = TimmWrapperForImageClassification(config)
    model.timm_model.load_state_dict(timm_model(settings, len(names)).state_dict())
    data = partial(Photographs, names=names, mean=settings["mean"], std=settings["std"])
    loop = Trainer(
        model,
        TrainingArguments(
            settings["output"], num_train_epochs=settings["epochs"], per_device_train_batch_size=settings["batch_size"],
            per_device_eval_batch_size=2 * settings["batch_size"], dataloader_num_workers=settings["num_workers"],
            dataloader_drop_last=True, learning_rate=settings["learning_rate"], lr_scheduler_type="cosine",
            warmup_steps=0.2, weight_decay=0.01, report_to="none", remove_unused_columns=False, use_cpu=True,
            disable_tqdm=True, label_names=["labels"],
        ),
        train_dataset=data(read_rows(folder, "train"), train=True),
    )  # fmt: skip
    loop.train()
    validation = data(read_rows(folder, "validation"), train=False)
    loop.args.dataloader_drop_last = False
    return lambda: loop.predict(validation).predictions


def fastai(settings: dict, folder: Path, names: list[str]):
    """fastai's `Learner` with its one-cycle schedule."""
    from fastai.vision.all import (
        DataBlock,
        FlipItem,
        ImageBlock,
        IndexSplitter,
        Learner,
        MultiCategoryBlock,
        Normalize,
        OptimWrapper,
    )  # fmt: skip

    rows = [*read_rows(folder, "train"), *(validation := read_rows(folder, "validation"))]
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock(vocab=names)), get_x=lambda i: rows[i][0],
        get_y=lambda i: rows[i][1],
        splitter=IndexSplitter(range(len(rows) - len(validation), len(rows))), item_tfms=[FlipItem(0.5)],
        batch_tfms=[Normalize.from_stats(settings["mean"], settings["std"])],
    )  # fmt: skip
    loaders = block.dataloaders(range(len(rows)), bs=settings["batch_size"], num_workers=settings["num_workers"])
    learner = Learner(
        loaders, timm_model(settings, len(names)), loss_func=torch.nn.BCEWithLogitsLoss(), path=settings["output"],
        opt_func=partial(OptimWrapper, opt=torch.optim.AdamW), wd=0.01,
    )  # fmt: skip
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(settings["epochs"], settings["learning_rate"], pct_start=0.2)

    def predict() -> np.ndarray:
        with learner.no_bar():
            return learner.get_preds(dl=loaders.valid, act=lambda logits: logits)[0].numpy()

    return predict


def lightly(settings: dict, folder: Path, names: list[str]):
    """LightlyTrain's fine-tuning with its own schedule; it predicts from files, without workers."""
    import lightly_train

    count = len(read_rows(folder, "train"))
    lightly_train.train_image_classification(
        out=settings["output"], model=f"timm/{settings['architecture']}", classification_task="multilabel",
        data={
            "train": str(folder / "train.csv"), "val": str(folder / "validation.csv"), "label_delimiter": "|",
            "classes": dict(enumerate(names)),
        },
        steps=settings["epochs"] * (count // settings["batch_size"]), batch_size=settings["batch_size"],
        num_workers=settings["num_workers"], devices=1, accelerator="cpu", precision="32-true",
        gradient_accumulation_steps=1, logger_args={"tensorboard": None},
        transform_args={
            "image_size": (settings["image_size"],) * 2, "random_crop": None, "color_jitter": None,
            "normalize": {"mean": tuple(settings["mean"]), "std": tuple(settings["std"])},
            "val": {"resize_scale": None},
        },
        model_args={
            "lr": settings["learning_rate"],
            "backbone_args": settings["timm_arguments"] | {"checkpoint_path": settings["weights"]},
        },
    )  # fmt: skip
    model = lightly_train.load_model(Path(settings["output"]) / "exported_models/exported_last.pt").eval()
    files = [file for file, _ in read_rows(folder, "validation")]

    def predict() -> np.ndarray:
        scores = np.zeros((len(files), len(names)), np.float32)
        for start in range(0, len(files), size := 2 * settings["batch_size"]):
            for i, found in enumerate(model.predict_batch(files[start : start + size], threshold=-1)):
                scores[start + i, found["labels"].numpy()] = found["scores"].numpy()
        return scores

    return predict


PEERS = {
    "assocformer_hf": assocformer,
    "assocformer_hf without head start": partial(assocformer, head_start=False),
    "transformers.Trainer": trainer,
    "fastai": fastai,
    "LightlyTrain": lightly,
}


def main(file: str):
    settings = json.loads(Path(file).read_text())
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    register_optimizer_step_post_hook(note_step)
    predict = PEERS[settings["peer"]](settings, Path(settings["data"]), settings["names"])
    trained = time.time()
    started = time.perf_counter()
    scores = predict()
    seconds = time.perf_counter() - started
    np.save(Path(file).with_name("scores.npy"), scores)
    Path(file).with_name("result.json").write_text(
        json.dumps({"steps": STEPS, "trained": trained, "evaluation": len(scores) / seconds})
    )


if __name__ == "__main__":
    main(sys.argv[1])
