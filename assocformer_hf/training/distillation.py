"""Knowledge distillation: a trained model's scores in the place of the labels."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from huggingface_hub.constants import HF_HOME
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import evaluation_transform
from assocformer_hf.data.main_process import from_main_process
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.evaluation.trained_model import load_model_and_processor, model_digest
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.progress import progress_bar

CACHE = Path(HF_HOME) / "assocformer/teachers"
BATCH_SIZE = 32


class Taught(NamedTuple):
    """What a teacher makes of the images.

    Attributes:
        scores: probabilities `(images, labels)`, float32.
        name: of the teacher: its Hub id, or the name of its folder.
        digest: of its weights and configuration, shortened.
    """

    scores: Tensor
    name: str
    digest: str


def teacher_scores(
    name_or_path: str,
    dataset: datasets.Dataset,
    accelerator: Accelerator,
    num_workers: int = 0,
    bad_images: str = "error",
) -> Taught:
    """What a trained model makes of each image, without augmentation; called by every process.

    The images are scored once. Their scores stay in the cache of Hugging Face (`HF_HOME`), in a place that follows from
    the teacher's weights and configuration, its image processor, the precision, and the images.

    Args:
        name_or_path: folder or Hub id of a model of the package that knows all labels of the dataset.
        dataset: of the schema of `multilabel_features`.
        accelerator: devices, precision and processes.
        num_workers: processes that load images, for each process.
        bad_images: see [`MultiLabelImages`].

    Returns:
        Scores in the dataset's order of labels, for an unreadable image those of the one that takes its place; and
        which teacher they are of.

    Raises:
        DataError: if the teacher does not know a label of the dataset, or an image cannot be read.
        ModelFileError: if there is no such teacher.
        OutputError: if the cache cannot be written to.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """
    teacher, processor = load_model_and_processor(name_or_path)
    known = teacher.config.label_names
    if missing := [name for name in label_names(dataset) if name not in known]:
        raise DataError(f"{name_or_path}: the teacher does not know the label {missing[0]!r}; it knows {known}")
    columns = [known.index(name) for name in label_names(dataset)]

    of_teacher = model_digest(teacher)
    made_by = [of_teacher, processor.to_dict(), accelerator.mixed_precision, columns]
    digest = hashlib.sha256(repr(made_by).encode() + image_digests(dataset).tobytes())
    cache = OutputFolder(CACHE / digest.hexdigest())
    file = cache.path / "scores.npy"
    scores = from_main_process(lambda: np.load(file) if file.is_file() else None)
    if scores is None:
        images = MultiLabelImages(dataset, evaluation_transform(processor), bad_images=bad_images)
        collator = MultiLabelCollator(len(columns), with_index=True)
        loader = accelerator.prepare(DataLoader(images, BATCH_SIZE, collate_fn=collator, num_workers=num_workers))
        scores = _scored(teacher.to(accelerator.device), loader, accelerator)[:, columns].numpy()
        if accelerator.is_main_process:
            with cache.locked():
                cache.write(file.name, "scores", lambda path: np.save(path, scores))
    name = Path(name_or_path).resolve().name if Path(name_or_path).exists() else name_or_path
    return Taught(torch.from_numpy(scores), name, of_teacher[:16])


@torch.no_grad()
def _scored(teacher: PreTrainedModel, loader: DataLoader, accelerator: Accelerator) -> Tensor:
    """Scores `(images, the teacher's labels)` on the CPU of every process, in the loader's order."""
    scores = []
    for batch in progress_bar(loader, accelerator.is_main_process, desc="teacher", unit="batches"):
        with accelerator.autocast():
            logits = teacher(batch["pixel_values"]).logits
        scores.append(accelerator.gather_for_metrics(logits.float().sigmoid()).cpu())
    return torch.cat(scores)
