"""Training in one call: from a dataset to a saved model."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml
from transformers import PreTrainedModel

from assocformer_hf.data.checks.check import check_labels
from assocformer_hf.data.checks.text import brief_lines
from assocformer_hf.data.images.transforms import backbone_image_processor, create_image_processor
from assocformer_hf.data.load import DEFAULT_SPLITS, dataset_name
from assocformer_hf.data.main_process import from_main_process
from assocformer_hf.data.readers.options import SourceOptions
from assocformer_hf.data.schema import DataError, label_names
from assocformer_hf.data.streams import StreamedDataset
from assocformer_hf.data.summary import MultiLabelDataset
from assocformer_hf.evaluation.evaluator import Evaluation, require_positives
from assocformer_hf.evaluation.report import metrics_table
from assocformer_hf.evaluation.trained_model import load_trained_model
from assocformer_hf.hub.model_folder import (
    MODEL_FILES,
    SAMPLES,
    add_sample_images,
    read_metrics,
    save_model_folder,
)
from assocformer_hf.hub.publish import create_repository, publish_folder
from assocformer_hf.model.configuration_assocformer import AssocFormerConfig
from assocformer_hf.model.image_processing_assocformer import AssocFormerImageProcessor
from assocformer_hf.model.modeling_assocformer import AssocFormerForMultiLabel
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.quiet import quiet_libraries
from assocformer_hf.saved_files import OPTIONS_FILE
from assocformer_hf.training.arguments import (
    DataArguments,
    HubArguments,
    ModelArguments,
    RecipeArguments,
    training_arguments,
)
from assocformer_hf.training.checkpoint import FREE_OPTIONS, check_output_folder
from assocformer_hf.training.distillation import teacher_scores
from assocformer_hf.training.images import create_images, first_pictures
from assocformer_hf.training.loop import TrainingRun, create_accelerator
from assocformer_hf.training.machine import hardware, share_cores
from assocformer_hf.training.preemption import stops_before_the_first_step
from assocformer_hf.training.splits import load_splits
from assocformer_hf.wording import counted

SAVES = (*MODEL_FILES, OPTIONS_FILE)
IN_MEMORY = "own data"  # what a dataset without a name or a path is called


@dataclass
class TrainingResult:
    """What a training leaves behind.

    Attributes:
        output_dir: the model folder.
        history: one entry for each epoch, as in `history.csv`.
        unreadable: names of the images that could not be read, with `bad_images="skip"`.
        url: of the published model, where it was published.
    """

    output_dir: Path
    history: list[dict]
    unreadable: list[str]
    url: str | None = None

    @cached_property
    @quiet_libraries()
    def model(self) -> AssocFormerForMultiLabel:
        """The best weights, read from `output_dir` when they are first asked for."""
        return load_trained_model(self.output_dir)

    @cached_property
    def processor(self) -> AssocFormerImageProcessor:
        """The image processor of the model."""
        return AssocFormerImageProcessor.from_pretrained(self.output_dir)

    @cached_property
    def metrics(self) -> dict:
        """What the best weights reached on the validation split, as in `metrics.json`."""
        return read_metrics(self.output_dir)


@quiet_libraries()
def train(dataset: object = None, *, config: str | Path | None = None, **options) -> TrainingResult:
    """Trains a model on a dataset and saves the best weights as a complete model folder.

    Several processes call it alike, under `accelerate launch` or `accelerate.notebook_launcher`.

    Args:
        dataset: what [`load_multilabel_dataset`] takes, such as `"scenes"`, a path or a Hub id, or what it returned;
            default: that of `config`, else `"scenes"`.
        config: a YAML file of options, beneath those that are given here.
        options: those of [`ModelArguments`], [`DataArguments`], [`RecipeArguments`], [`SourceOptions`] and
            [`HubArguments`] by their names, such as `backbone` or `output_dir`.

    Returns:
        The model folder, the model in it, its metrics and the history of the training.

    Raises:
        TypeError: if there is no option of a name.
        OptionError: if an option has a value that it cannot have.
        DataError: if the dataset cannot be read.
        CheckpointError: if the folder holds another run's work, or nothing to resume.
        OutputError: if the folder cannot be written to without loss.
        TrainingError: if the gradients stay infinite or NaN.
        Preempted: after SIGTERM or SIGINT, once a checkpoint is written, or before the first step.
    """
    with stops_before_the_first_step():
        run, splits, data_args, hub = _create_run(dataset, config, options)
    state = run.run()  # the best weights are on the disk before any process comes out

    result = TrainingResult(run.output.path, state.history, state.unreadable)
    folder = run.recipe.output_dir
    if run.accelerator.is_main_process:
        print(f"\n{metrics_table(result.metrics)}\n\nsaved in {folder}")
        if state.unreadable:
            print(f"{counted(len(state.unreadable), 'image')} could not be read: {', '.join(state.unreadable)}")
        if hub.hub_sample_images:
            pictures = first_pictures(splits["validation"], hub.hub_sample_images, data_args.bad_images)
            add_sample_images(folder, pictures)
        if hub.push_to_hub:
            result.url = publish_folder(folder, hub.hub_model_id, hub.hub_private_repo, license=hub.hub_license)
            print(f"published: {result.url}")
    return result


def _create_run(
    dataset: object, config: str | Path | None, options: dict[str, Any]
) -> tuple[TrainingRun, Mapping[str, datasets.Dataset], DataArguments, HubArguments]:
    """A run that is ready for its first step, the splits it is of, and how they are read and published."""
    if dataset is not None:
        options = options | {"dataset": str(dataset) if isinstance(dataset, (str, Path)) else IN_MEMORY}
    model_args, data_args, recipe, source, hub = training_arguments(config, **options)
    dataset = data_args.dataset if dataset is None else dataset
    # With both, nothing reads L: what only L depends on gets no gradient.
    unused = model_args.fusion == "linear" and model_args.pooling == "attention"
    accelerator = create_accelerator(recipe, unused)
    for line in model_args.without_effect():
        accelerator.print(f"note: {line}")
    AssocFormerConfig(**_config_options(model_args))  # which refuses values that it cannot have
    # Before anything is read; once more, with the folder's lock, where the run begins.
    from_main_process(lambda: _check_existing_folder(recipe))
    if hub.push_to_hub and accelerator.is_main_process:
        create_repository(hub.hub_model_id, hub.hub_private_repo)

    name = dataset_name(data_args.dataset)
    splits = load_splits(dataset, data_args, source)
    names = label_names(splits["train"])
    if isinstance(splits, MultiLabelDataset):
        accelerator.print(splits.summary)
    if name not in DEFAULT_SPLITS and not isinstance(splits, StreamedDataset):
        checked = check_labels(splits)
        accelerator.print(*brief_lines(checked), sep="\n")
        if recipe.teacher is None:  # whose scores take the place of the labels
            checked.require_learnable()
    require_positives(splits["validation"])
    model = create_model(model_args, names)
    processor = create_processor(model_args)
    train_images, eval_images = create_images(splits, processor, data_args, recipe.seed)
    run_options = _options_of_run(model_args, data_args, source, processor, name)
    if recipe.teacher is not None:
        if isinstance(splits, StreamedDataset):
            raise DataError("a teacher scores all images before the training: leave out streaming, or the teacher")
        loading = accelerator, share_cores(accelerator, data_args.num_workers), data_args.bad_images
        taught = teacher_scores(recipe.teacher, splits["train"], *loading)
        train_images.soft_labels = taught.scores
        run_options |= {"teacher": taught.name, "teacher_digest": taught.digest}
    accelerator.print(
        f"{name}: {len(train_images)} images to train on, {len(eval_images)} to evaluate on, "
        f"{len(names)} labels\n{model_args.backbone}: {model.num_parameters() / 1e6:.2f} M parameters, "
        f"{sum(p.numel() for p in model.head.parameters()) / 1e3:.1f} k of them in the head"
    )

    origin = {
        "dataset": name,
        "train_split": str(splits["train"].split),
        "eval_split": str(splits["validation"].split),
        "train_images": len(train_images),
        "backbone": Path(model_args.backbone).name,
        "base_model": hub_id(model_args.backbone),
        "auto": [name for name, value in asdict(recipe).items() if value == "auto" and name not in FREE_OPTIONS],
    }
    save_best = BestModel(
        processor,
        origin,
        divided=isinstance(splits, MultiLabelDataset) and splits.summary.held_out > 0,
        write_options=partial(write_options, (model_args, data_args, recipe, source), dataset),
    )
    run = TrainingRun(
        model,
        train_images,
        eval_images,
        recipe,
        accelerator,
        save_best,
        num_workers=data_args.num_workers,
        options=run_options,
        saves=SAVES,
    )
    return run, splits, data_args, hub


@dataclass
class BestModel:
    """Saves weights as a complete model folder; a run calls it with those that are the best so far.

    Attributes:
        processor: the image processor.
        origin: what the card says of the training: the dataset, its splits, the backbone.
        divided: whether the package held the validation images out itself.
        write_options: writes the options of the run as a file, once, as they stay the same.
    """

    processor: AssocFormerImageProcessor
    origin: dict
    divided: bool
    write_options: Callable[[Path], None]
    options_written: bool = field(default=False, init=False)

    def __call__(self, run: TrainingRun, model: PreTrainedModel, weights: str, evaluation: Evaluation):
        """Writes the folder: the weights, what they reached, and how they came about."""
        seconds = sum(entry["seconds"] for entry in run.state.history)
        details = self.origin | {"weights": weights, "epoch": run.state.epoch, "options": run.state.options}
        details |= {"seconds": seconds} | hardware(run.accelerator)
        used = replace(run.images_used, divided=self.divided)
        evaluation = replace(evaluation, trained_on=int(np.isin(used.held_out, used.trained_on).sum()))
        with run.output.replacing("model") as folder:
            save_model_folder(folder, model, self.processor, evaluation, details, images_used=used)
        run.output.remove(run.output.owned(SAMPLES))  # which show the tags of earlier weights
        if not self.options_written:  # not before: until then the model in the folder may be an earlier run's
            run.output.write(OPTIONS_FILE, "run", self.write_options)
            self.options_written = True


def _options_of_run(
    model_args: ModelArguments,
    data_args: DataArguments,
    source: SourceOptions,
    processor: AssocFormerImageProcessor,
    dataset: str,
) -> dict:
    """What a run depends on besides its recipe; it can only be resumed with the same."""
    options = asdict(model_args) | asdict(data_args) | asdict(source)
    for free in ("data_dir", "num_workers", "bad_images"):
        del options[free]
    # By its name: what is published says nothing of the folders of a machine.
    backbone = hub_id(model_args.backbone) or Path(model_args.backbone).name
    return options | {"backbone": backbone, "dataset": dataset, "processor": processor.to_dict()}


def _check_existing_folder(recipe: RecipeArguments):
    if Path(recipe.output_dir).is_dir():
        check_output_folder(OutputFolder(recipe.output_dir, recipe.overwrite), recipe, SAVES)


def write_options(groups: Iterable[Any], dataset: object, path: Path) -> None:
    """Writes the options of a run as a file that `config` takes; a path in it is absolute, and is not published."""
    options = {name: value for group in groups for name, value in asdict(group).items() if name not in FREE_OPTIONS}
    for name in ("dataset", "data_dir", "backbone", "teacher"):
        by_name = options[name] in (DEFAULT_SPLITS if name == "dataset" else BACKBONE_PRESETS)
        if options[name] is not None and not by_name and Path(options[name]).exists():
            options[name] = str(Path(options[name]).resolve())
    if not isinstance(dataset, (str, Path)):
        del options["dataset"]
    set_ones = {name: value for name, value in options.items() if value is not None}
    path.write_text(yaml.safe_dump(set_ones, sort_keys=False, allow_unicode=True), encoding="utf-8")


def create_model(args: ModelArguments, names: list[str]) -> AssocFormerForMultiLabel:
    """The model that the options describe: a preset with random weights, or a pretrained backbone."""
    options = _config_options(args)
    return AssocFormerForMultiLabel.from_backbone(args.backbone, id2label=dict(enumerate(names)), **options)


def _config_options(args: ModelArguments) -> dict[str, Any]:
    """The options that are those of [`AssocFormerConfig`]."""
    return {name: value for name, value in asdict(args).items() if name not in ("backbone", "normalization")}


def create_processor(args: ModelArguments) -> AssocFormerImageProcessor:
    """The image processor that the options describe; random weights are used to no normalisation."""
    if args.normalization == "backbone" and args.backbone not in BACKBONE_PRESETS:
        return backbone_image_processor(args.backbone, args.image_size)
    return create_image_processor(args.image_size)


def hub_id(backbone: str) -> str | None:
    """The backbone's name on the Hub, for the model card; a preset or a folder has none."""
    return None if backbone in BACKBONE_PRESETS or Path(backbone).exists() else backbone
