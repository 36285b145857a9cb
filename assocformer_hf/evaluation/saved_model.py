"""A saved model, measured on a split of a dataset."""

import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import datasets
import numpy as np
import yaml
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import BaseImageProcessor

from assocformer_hf.data.checks.check import cooccurrence
from assocformer_hf.data.identity import image_digests
from assocformer_hf.data.images.dataset import MultiLabelCollator, MultiLabelImages
from assocformer_hf.data.images.transforms import evaluation_transform
from assocformer_hf.data.images_used import ImagesUsed
from assocformer_hf.data.load import ALL, DEFAULT_SPLITS, has_validation, load_split
from assocformer_hf.data.main_process import from_main_process, require_all_processes
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.evaluation.evaluator import Evaluation, evaluate, require_positives
from assocformer_hf.evaluation.options import EvaluationArguments
from assocformer_hf.evaluation.trained_model import load_model_and_processor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel
from assocformer_hf.saved_files import METRICS_FILE, OPTIONS_FILE, read_metrics_file
from assocformer_hf.wording import one_line

logger = logging.getLogger(__name__)

OWN_SPLITS = ("train", "validation")  # of datasets other than the benchmarks


@dataclass
class SavedModel:
    """A saved model and what it was measured on.

    Attributes:
        model: the model.
        processor: its image processor.
        label_names: in the order of the columns.
        dataset: the images.
        images: the same, as the model takes them.
        evaluation: what came out.
        held_out: whether these are the images that its weights were chosen on; None where it does not say which.
    """

    model: AssocFormerForMultiLabel
    processor: BaseImageProcessor
    label_names: list[str]
    dataset: datasets.Dataset
    images: MultiLabelImages
    evaluation: Evaluation
    held_out: bool | None = None


def evaluate_saved_model(
    args: EvaluationArguments,
    source: SourceOptions,
    accelerator: Accelerator,
    dataset: datasets.Dataset | None = None,
) -> SavedModel:
    """Loads a model and a split, and evaluates it over all processes; warns of images that it was trained on.

    Where the package itself held the validation images out for the training, they are the same again, whatever was
    added to the dataset since.

    Args:
        args: which model and images.
        source: how the dataset is read.
        accelerator: devices, precision and processes.
        dataset: the images, where they were loaded for another model that this one is to be compared with.

    Raises:
        DataError: if the data cannot be read, or have other labels than the model.
        ModelFileError: if there is no such model, or a file of it is missing.
    """
    require_all_processes()
    loaded, processor = load_model_and_processor(args.model)
    model = loaded.to(accelerator.device)
    names = model.config.label_names
    given = dataset
    dataset, seen, held_out = from_main_process(lambda: _load_unseen(args, source, names, given))
    images = MultiLabelImages(dataset, evaluation_transform(processor), bad_images=args.bad_images)
    loader = accelerator.prepare(
        DataLoader(
            images,
            args.batch_size,
            collate_fn=MultiLabelCollator(len(names), with_index=True),
            num_workers=args.num_workers,
        )
    )
    evaluation = replace(evaluate({"model": model}, loader, accelerator)["model"], trained_on=seen)
    return SavedModel(model, processor, names, dataset, images, evaluation, held_out)


def with_own_dataset(args: EvaluationArguments, source: SourceOptions) -> tuple[EvaluationArguments, SourceOptions]:
    """The arguments; where they name no dataset, with the one that the model's training left beside it.

    Raises:
        DataError: if the model does not say what it was trained on.
    """
    if args.dataset is not None:
        return args, source
    folder = Path(args.model)
    known = {}
    if (folder / OPTIONS_FILE).is_file():
        try:
            known = yaml.safe_load((folder / OPTIONS_FILE).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise DataError(
                f"{folder / OPTIONS_FILE}: not valid YAML ({one_line(error)}); name the dataset with --dataset"
            ) from error
    elif (folder / METRICS_FILE).is_file():
        run = read_metrics_file(folder / METRICS_FILE).get("run") or {}
        if run.get("dataset") in DEFAULT_SPLITS:
            known = {"dataset": run["dataset"], "eval_split": run["eval_split"]}
    if not isinstance(known, dict) or "dataset" not in known:
        raise DataError(f"{args.model}: does not say which dataset it was trained on; name one with --dataset")
    own = {option.name: known[option.name] for option in fields(SourceOptions) if option.name in known}
    own |= {name: getattr(source, name) for name in source.given()}
    args = replace(args, dataset=known["dataset"], data_dir=args.data_dir or known.get("data_dir"))
    return args, SourceOptions(**own)


def training_counts(
    args: EvaluationArguments, source: SourceOptions, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of the training split what [`cooccurrence`] counts.

    Args:
        args: name the dataset.
        source: how to read it.
        names: the labels.

    Raises:
        DataError: if there is no such split.
    """
    return cooccurrence(_load(args, source, names, _usual_split(args.dataset, 0, source.train_split)))


def evaluation_split(args: EvaluationArguments, source: SourceOptions) -> str:
    """The name of the split that is evaluated: of benchmarks the official one, of others ours."""
    return args.split or _usual_split(args.dataset, 1, source.eval_split)


def _usual_split(dataset: str | None, place: int, given: str | None) -> str:
    """The split to train on (0) or to evaluate on (1); of others than the benchmarks, reading maps the given name."""
    if dataset not in DEFAULT_SPLITS:
        return OWN_SPLITS[place]
    return given or DEFAULT_SPLITS[dataset][place]


def _load_unseen(
    args: EvaluationArguments, source: SourceOptions, names: list[str], given: datasets.Dataset | None
) -> tuple[datasets.Dataset, int, bool | None]:
    """The images to evaluate on, how many of them were trained on, and whether they are those held out for it."""
    split = evaluation_split(args, source)
    dataset = _load(args, source, names, split) if given is None else given
    if label_names(dataset) != names:
        raise DataError(f"{args.model} was trained on other labels than those of {args.dataset}; use its own dataset")
    require_positives(dataset)
    used = ImagesUsed.of_model(args.model)
    if used is None:
        return dataset, 0, None
    digests = image_digests(dataset)
    own = given is None and used.divided and split == OWN_SPLITS[1]
    held_out = set(used.held_out.tolist())
    if own and set(digests.tolist()) != held_out and not _has_validation(args, source, names):
        whole = _load(args, source, names, ALL)
        of_whole = image_digests(whole)
        rows = np.flatnonzero(np.isin(of_whole, used.held_out))
        # Another dataset may have some of these images too.
        known = np.isin(used.trained_on, of_whole).any() and np.isin(used.held_out, of_whole).mean() > 0.5
        if known:
            dataset, digests = whole.select(rows), of_whole[rows]
            logger.warning(
                "%s: the dataset, or its division, changed since the training; evaluated are the %d images that were "
                "held out then", args.dataset, len(rows),
            )  # fmt: skip
    seen = int(np.isin(digests, used.trained_on).sum())
    if seen:
        logger.warning(
            "%s: %s was trained on %d of these %d images: its numbers flatter it; give others",
            args.dataset, args.model, seen, len(digests),
        )  # fmt: skip
    foreign = given is None and args.split is None and not seen and held_out.isdisjoint(digests.tolist())
    if foreign and not _has_validation(args, source, names):
        logger.warning(
            "%s: has no validation split, and %s was not trained on it: measured are only the %d images that a "
            "training would hold out; --split all measures every image", args.dataset, args.model, len(digests),
        )  # fmt: skip
    return dataset, seen, set(digests.tolist()) == held_out


def _load(args: EvaluationArguments, source: SourceOptions, names: list[str], split: str) -> datasets.Dataset:
    return load_split(args.dataset, split, args.data_dir, args.bad_images, **_options(args, source, names))


def _has_validation(args: EvaluationArguments, source: SourceOptions, names: list[str]) -> bool:
    """Whether the dataset has a validation split of its own, which is then what its user wants to be measured."""
    return has_validation(args.dataset, args.data_dir, **_options(args, source, names))


def _options(args: EvaluationArguments, source: SourceOptions, names: list[str]) -> dict:
    own_names = {} if args.dataset in DEFAULT_SPLITS else {"label_names": source.label_names or names}
    return asdict(source) | own_names
