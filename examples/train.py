"""Train AssocFormer: `accelerate launch examples/train.py`; see `--help`, the README and `examples/configs`."""

from dataclasses import asdict
from pathlib import Path

from torchvision.transforms.v2.functional import to_pil_image
from transformers import ViTImageProcessor

from assocformer_hf import AssocFormerConfig, AssocFormerForMultiLabel, load_multilabel_dataset
from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.data.checks.check import check_labels
from assocformer_hf.data.checks.page import brief_lines
from assocformer_hf.data.images.dataset import MultiLabelImages
from assocformer_hf.data.images.transforms import (
    backbone_image_processor,
    create_image_processor,
    evaluation_transform,
    pixel_scaling,
    training_transform,
)
from assocformer_hf.data.load import DEFAULT_SPLITS, dataset_name
from assocformer_hf.data.readers.registry import SourceOptions
from assocformer_hf.data.schema import label_names
from assocformer_hf.evaluation.report import metrics_table
from assocformer_hf.hub.model_folder import MODEL_FILES, add_sample_images, read_metrics, save_model_folder
from assocformer_hf.hub.publish import create_repository, publish_folder
from assocformer_hf.model.configuration_assocformer import ConfigurationError
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.training.arguments import DataArguments, HubArguments, ModelArguments, RecipeArguments
from assocformer_hf.training.loop import TrainingRun, create_accelerator

CONFIGS = Path(__file__).parent / "configs"


def create_model(args: ModelArguments, names: list[str]) -> AssocFormerForMultiLabel:
    """The model that the options describe: a preset with random weights, or a pretrained backbone."""
    own = ("backbone", "image_size", "normalization")
    config = {key: value for key, value in asdict(args).items() if key not in own}
    config["id2label"] = dict(enumerate(names))
    if args.backbone in BACKBONE_PRESETS:
        backbone_config = BACKBONE_PRESETS[args.backbone](args.image_size)
        return AssocFormerForMultiLabel(AssocFormerConfig(backbone_config=backbone_config, **config))
    return AssocFormerForMultiLabel.from_backbone(args.backbone, image_size=args.image_size, **config)


def create_processor(args: ModelArguments) -> ViTImageProcessor:
    """The image processor that the options describe."""
    if args.normalization == "backbone":
        return backbone_image_processor(args.backbone, args.image_size)
    if args.normalization != "none":
        raise ConfigurationError(f"normalization must be none or backbone, got {args.normalization!r}")
    return create_image_processor(args.image_size)


def hub_id(backbone: str) -> str | None:
    """The backbone's name on the Hub, for the model card; a preset or a folder has none."""
    return None if backbone in BACKBONE_PRESETS or Path(backbone).exists() else backbone


def main():
    model_args, data_args, recipe, source, hub = parse_arguments(
        [ModelArguments, DataArguments, RecipeArguments, SourceOptions, HubArguments],
        dataset_configs={"scenes": CONFIGS / "scenes.yaml"},
    )
    accelerator = create_accelerator(recipe)
    if hub.push_to_hub and accelerator.is_main_process:
        create_repository(hub.hub_model_id, hub.hub_private_repo)

    dataset = load_multilabel_dataset(
        data_args.dataset, data_args.data_dir, data_args.train_split, data_args.eval_split, **asdict(source)
    )
    names = label_names(dataset["train"])
    if data_args.dataset not in DEFAULT_SPLITS:
        accelerator.print(*brief_lines(check_labels(dataset)), sep="\n")
    model = create_model(model_args, names)
    processor = create_processor(model_args)
    augment = training_transform(
        processor,
        data_args.cutout,
        data_args.randaugment_ops,
        data_args.randaugment_magnitude,
        data_args.horizontal_flip,
    )
    reading = {"min_side": model_args.image_size, "bad_images": data_args.bad_images}
    scale = pixel_scaling(processor)
    train_images = MultiLabelImages(dataset["train"], augment, recipe.seed, scale=scale, **reading)
    eval_images = MultiLabelImages(dataset["validation"], evaluation_transform(processor), **reading)
    accelerator.print(
        f"{data_args.dataset}: {len(train_images)} images to train on, {len(eval_images)} to evaluate on, "
        f"{len(names)} labels\n{model_args.backbone}: {model.num_parameters() / 1e6:.2f} M parameters, "
        f"{sum(p.numel() for p in model.head.parameters()) / 1e3:.1f} k of them in the head"
    )

    origin = {
        "dataset": dataset_name(data_args.dataset),
        "train_split": str(dataset["train"].split),
        "eval_split": str(dataset["validation"].split),
        "train_images": len(train_images),
        "backbone": Path(model_args.backbone).name,
        "base_model": hub_id(model_args.backbone),
    }

    def save_best(model, weights, evaluation, state):
        details = origin | {"weights": weights, "epoch": state.epoch, "options": state.options}
        with run.output.replacing("model") as folder:
            save_model_folder(folder, model, processor, evaluation, details)

    options = asdict(model_args) | asdict(data_args) | asdict(source) | {"dataset": origin["dataset"]}
    for free in ("data_dir", "num_workers", "bad_images"):
        del options[free]
    run = TrainingRun(
        model, train_images, eval_images, recipe, accelerator, save_best, data_args.num_workers, options, MODEL_FILES
    )
    state = run.run()

    if accelerator.is_main_process:
        print(f"\n{metrics_table(read_metrics(recipe.output_dir))}\n\nsaved in {recipe.output_dir}")
        if state.unreadable:
            print(f"{len(state.unreadable)} images could not be read: {', '.join(state.unreadable)}")
        if hub.push_to_hub:
            if hub.hub_sample_images:
                samples = MultiLabelImages(dataset["validation"], to_pil_image, bad_images=data_args.bad_images)
                count = min(hub.hub_sample_images, len(samples))
                add_sample_images(recipe.output_dir, [samples[i]["pixel_values"] for i in range(count)])
            print(f"published: {publish_folder(recipe.output_dir, hub.hub_model_id, hub.hub_private_repo)}")


if __name__ == "__main__":
    with one_line_errors():
        main()
