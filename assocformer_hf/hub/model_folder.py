"""A trained model as a complete Hub repository folder."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.constants import SAFETENSORS_INDEX_FILE, SAFETENSORS_SINGLE_FILE
from PIL import Image, ImageOps
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME, SAFE_WEIGHTS_NAME

from assocformer_hf.data.images.decoding import decode_image, without_metadata
from assocformer_hf.data.images_used import IMAGES_FILE, ImagesUsed
from assocformer_hf.evaluation.association_worth import is_worth_showing, worth_sentence
from assocformer_hf.evaluation.evaluator import Evaluation
from assocformer_hf.evaluation.metrics import DECISION_METRICS, HEADLINE, multilabel_metrics
from assocformer_hf.evaluation.report import evaluation_report
from assocformer_hf.inference.tagger import Tagger
from assocformer_hf.interpretation.association_map import is_flat, plot_association_map
from assocformer_hf.interpretation.predictions import plot_predictions
from assocformer_hf.model.modeling_assocformer import OLDEST_TIMM
from assocformer_hf.model.presets import BACKBONE_PRESETS
from assocformer_hf.output_folder import OutputFolder
from assocformer_hf.saved_files import METRICS_FILE, ModelFileError, is_hub_id, read_metrics_file
from assocformer_hf.wording import counted, one_line, shown

CARD_FILE = "README.md"
REQUIREMENTS_FILE = "requirements.txt"
MAP_FILE = "association_map.png"
RECIPE_FILE = "recipe.yaml"
PREDICTIONS_FILE = "predictions.jpg"
SAMPLES = "samples"
SAMPLE_SIDE = 1024  # pixels
LICENSES = f"{SAMPLES}/LICENSES.md"  # of the sample images
WEIGHTS = (SAFETENSORS_SINGLE_FILE, "model-*-of-*.safetensors", SAFETENSORS_INDEX_FILE)
CARD_TEMPLATE = Path(__file__).with_name("card_template.md")
HANDLER = Path(__file__).with_name("handler.py")
REQUIREMENTS = f"transformers>=5.17\ntimm>={OLDEST_TIMM}\ntorchvision>=0.26\n"
MODEL_ROOM = Path(__file__).parents[1] / "model"
REMOTE_CODE = tuple(sorted(path.name for path in MODEL_ROOM.glob("*.py") if path.stem != "__init__"))
# What `save_model_folder` may write, weights in shards aside.
MODEL_FILES = (
    CARD_FILE, METRICS_FILE, RECIPE_FILE, IMAGES_FILE, MAP_FILE, REQUIREMENTS_FILE, HANDLER.name, CONFIG_NAME,
    SAFE_WEIGHTS_NAME, IMAGE_PROCESSOR_NAME, *REMOTE_CODE,
)  # fmt: skip
CALIBRATION_FILE, RELIABILITY_FILE = CALIBRATION_FILES = ("calibration.json", "reliability.png")  # if calibrated
PICTURE = f"![Pictures and the labels that the model gives them]({PREDICTIONS_FILE})"
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # those that the card compares
# Of the options in `metrics.json`, what no recipe names: how the run was launched, and what it learned from.
NOT_OF_A_RECIPE = {"processor", "processes", "dataset", "train_split", "eval_split", "teacher", "teacher_digest"}
# An estimate of what the training emitted: nothing is metered. Watts of a GPU and of a CPU's core under load, and the
# world's mean of the electricity's grams of CO2 a kilowatt-hour (IEA, 2023).
WATTS, GRAMS = {"cuda": 400, "cpu": 10}, 460
TAGS = ["multi-label-classification", "assocformer"]
CITATION = """\
@inproceedings{xing2022assocformer,
  title = {AssocFormer: Association Transformer for Multi-label Classification},
  author = {Xing, Xin and Peng, Chong and Zhang, Yu and Lin, Ai-Ling and Jacobs, Nathan},
  booktitle = {British Machine Vision Conference},
  year = {2022}
}"""


def save_model_folder(
    folder: str | Path,
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    evaluation: Evaluation,
    run: dict,
    calibration: dict | None = None,
    images_used: ImagesUsed | None = None,
) -> None:
    """Writes weights, configuration, remote code, processor, endpoint handler, metrics, options and model card.

    The map of A is drawn for a model whose A is worth it, see `association_worth`.

    Args:
        folder: the folder; made where it is missing.
        model: AssocFormer.
        processor: the image processor that the evaluation used.
        evaluation: of this model.
        run: where the weights come from: `dataset`, `train_split`, `eval_split`, `train_images`, `backbone`,
            `base_model` (a Hub id or None), `weights` (`"raw"` or `"ema"`), `epoch`, and the `options` of the training;
            where they are known, the names of the options that were left to the data (`auto`), the `seconds` that its
            epochs took, and on what: its `device`, `"cuda"` or `"cpu"`, the `units`, GPUs or a CPU's threads, and the
            `hardware` by its name.
        calibration: what `assocformer calibrate` found on the images of the evaluation; None where it was not run.
        images_used: which images the weights were trained on; None where it is not known.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = model.config.label_names
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    shutil.copyfile(HANDLER, folder / HANDLER.name)
    if images_used is not None:
        images_used.save(folder)
    (folder / REQUIREMENTS_FILE).write_text(REQUIREMENTS, encoding="utf-8")
    metrics = evaluation_report(evaluation, names) | {
        "threshold": model.config.label_thresholds or model.config.threshold,
        "thresholds": _at_thresholds(evaluation),
        "calibration": calibration,
        "run": run,
        "parameters": model.num_parameters(),
        "image_size": processor.size["height"],
        "pooling": model.config.pooling,
        "versions": {name: version(name) for name in ("torch", "transformers", "timm", "accelerate")},
    }
    (folder / METRICS_FILE).write_text(json.dumps(metrics, indent=2, ensure_ascii=False), encoding="utf-8")
    write_recipe(run, folder / RECIPE_FILE)
    worth = (metrics["association"] or {}).get("worth")
    if is_worth_showing(worth) and not is_flat(evaluation.association):
        title = f"Mean association, {run['dataset']} {run['eval_split']}"
        plot_association_map(evaluation.association, names, folder / MAP_FILE, title)
    write_card(folder)


def write_card(folder: str | Path) -> None:
    """Writes the model card of a folder from its `metrics.json`; see [`model_card`]."""
    folder = Path(folder)
    has_map, has_pictures = ((folder / name).is_file() for name in (MAP_FILE, PREDICTIONS_FILE))
    model_card(shown(folder.resolve().name), read_metrics(folder), has_map, has_pictures).save(folder / CARD_FILE)


def write_recipe(run: dict, path: Path) -> None:
    """Writes the options of a training as a file that `assocformer train --config` takes, for other images too.

    Args:
        run: as in [`save_model_folder`]; what was left to the data is left to the other data again.
        path: the file.
    """
    options = run["options"] | dict.fromkeys(run.get("auto", ()), "auto")
    own = {name: value for name, value in options.items() if name not in NOT_OF_A_RECIPE and value is not None}
    path.write_text(yaml.safe_dump(own, sort_keys=False, allow_unicode=True), encoding="utf-8")


def write_predictions(folder: str | Path, images: Sequence[Image.Image], path: str | Path) -> None:
    """Draws images with the labels that the model of a folder gives them."""
    tagged = Tagger(folder, device="cpu")(list(images))
    plot_predictions(images, tagged, path)


def read_metrics(folder: str | Path) -> dict:
    """What `metrics.json` of a model folder holds."""
    return read_metrics_file(Path(folder) / METRICS_FILE)


def add_sample_images(folder: str | Path, images: Sequence[Image.Image]) -> None:
    """Puts images into a model folder as the examples of the Hub's widget, in place of earlier ones.

    They are written as JPEG of at most 1,024 pixels a side, without the metadata of the originals, such as places; and
    as one picture with the labels that the model gives them, at the top of its card.

    Args:
        folder: of `save_model_folder`.
        images: upright RGB images.

    Raises:
        OutputError: if files of others have the names of the samples.
    """

    def write(aside: Path):
        for i, image in enumerate(images, start=1):
            sample = ImageOps.contain(image, (SAMPLE_SIDE, SAMPLE_SIDE)) if max(image.size) > SAMPLE_SIDE else image
            without_metadata(sample).save(aside / SAMPLES / f"{i}.jpg", quality=95, subsampling=0)

    numbers = range(1, len(images) + 1)
    widget = [{"src": f"{SAMPLES}/{i}.jpg", "example_title": f"Example {i}"} for i in numbers]
    _replace_samples(folder, write, images, widget)


def _replace_samples(
    folder: str | Path, write: Callable[[Path], object], images: Sequence[Image.Image], widget: list[dict]
):
    """Puts sample images in place of earlier ones, and shows them on the card.

    Args:
        folder: of `save_model_folder`.
        write: is given a folder and writes the files of the samples into `samples` there.
        images: the samples.
        widget: what the card's metadata say under `widget`: an entry for each sample, with its address as `src`.
    """
    output = OutputFolder(folder)
    card = ModelCard.load(output.path / CARD_FILE)
    card.data["widget"] = widget
    with output.locked():
        with output.replacing(SAMPLES) as aside:
            (aside / SAMPLES).mkdir()
            write(aside)
            if images:
                write_predictions(output.path, images, aside / PREDICTIONS_FILE)
        if images and PICTURE not in card.content:
            card.content = card.content.replace("\n## Use\n", f"\n{PICTURE}\n\n## Use\n", 1)
        output.edit(CARD_FILE, card.save)


def sample_files(folder: str | Path) -> list[str]:
    """The sample images of a model folder and their licences: those that the package wrote, or that came with it.

    Returns:
        Names relative to the folder, sorted. Where the package did not write the model there, as in a download, those
        that the card shows are among them. Other files that lie there are their owner's.

    Raises:
        ModelFileError: if the card's metadata are needed and not valid.
    """
    folder, output = Path(folder), OutputFolder(folder)
    names = {LICENSES, *(name for name in output.owned() if name.startswith(f"{SAMPLES}/"))}
    if not output.owned("model"):
        names |= {name for one in _widget(folder) if (name := sample_of(one))}
    return sorted(name for name in names if (folder / name).is_file())


def sample_of(example: dict) -> str | None:
    """The sample image, relative to its folder, that an entry of a card's widget shows; None for any other address."""
    found = re.fullmatch(rf"(?:.*/resolve/main/)?({SAMPLES}/[^/]+)", str(example.get("src", "")))
    return found[1] if found else None


def _widget(folder: Path) -> list[dict]:
    """What the card of a folder shows to try the model with; nothing where there is no card."""
    file = folder / CARD_FILE
    try:
        return (ModelCard.load(file).data.get("widget") or []) if file.is_file() else []
    except (ValueError, yaml.YAMLError) as error:
        raise ModelFileError(f"{file}: its metadata is not valid ({one_line(error)}); mend or remove it") from error


def copy_sample_images(source: str | Path, folder: str | Path) -> None:
    """Takes the sample images of a model folder over into another, as its model tags them, in place of earlier ones.

    Args:
        source: a model folder, which may have none.
        folder: of `save_model_folder`.

    Raises:
        OutputError: if files of others have the names of the samples.
    """
    source = Path(source)
    names = sample_files(source)
    if not names:
        return

    def write(aside: Path):
        for name in names:
            shutil.copyfile(source / name, aside / name)

    images = [decode_image(source / name) for name in names if name != LICENSES]
    widget = [one for one in _widget(source) if sample_of(one) in (None, *names)]
    _replace_samples(folder, write, images, widget)


def model_card(name: str, metrics: dict, has_map: bool, has_pictures: bool = False) -> ModelCard:
    """The model card, filled from what `metrics.json` holds.

    Args:
        name: name of the model.
        metrics: the contents of `metrics.json`.
        has_map: whether the folder holds an association map.
        has_pictures: whether it holds a picture of predictions.
    """
    run, threshold = metrics["run"], metrics["threshold"]
    hub_id = run["dataset"].partition(":")[0]  # without the configuration
    split, measured = run["eval_split"], metrics
    if held_out := metrics.get("test"):  # the validation split chose the weights, which flatters them
        split, measured = held_out["split"], held_out["rows"][0]  # the others are of models beside it
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=run["dataset"],
            dataset_name=run["dataset"],
            dataset_split=split,
            metric_type=key,
            metric_value=round(measured[key], 4),
        )
        for key in ("mAP", "CF1", "OF1")
    ]
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-classification",
        tags=TAGS,
        datasets=[hub_id] if is_hub_id(hub_id) else None,
        metrics=["mAP", "f1"],
        base_model=run["base_model"],
        model_name=name,
        eval_results=results,
        co2_eq_emissions=_emissions(run),
    )
    return ModelCard.from_template(
        data,
        template_path=str(CARD_TEMPLATE),
        model_name=name,
        image_size=metrics["image_size"],
        parameters=f"{metrics['parameters'] / 1e6:.1f}",
        places=metrics["pooling"] == "attention",
        num_labels=len(metrics["per_label"]),
        threshold="each label's own threshold" if isinstance(threshold, list) else _few_digits(threshold),
        single_threshold=None if isinstance(threshold, list) else repr(threshold),
        requirements=" ".join(f'"{package}"' for package in REQUIREMENTS.split()),
        quoted_name=json.dumps(name, ensure_ascii=False),
        threshold_columns=DECISION_METRICS,
        best_threshold=max(metrics["thresholds"], key=lambda row: row["OF1"])["threshold"],
        calibration_note=_calibration_note(metrics.get("calibration")),
        in_markdown=_in_markdown,
        headline={key.replace("_", " "): f"{100 * metrics[key]:.1f}" for key in HEADLINE},
        has_map=has_map,
        picture=PICTURE if has_pictures else "",
        associates=metrics["association"] is not None,
        worth=worth_sentence((metrics["association"] or {}).get("worth")),
        cost=_cost(run),
        metrics=metrics,
        run=run,
        citation=CITATION,
    )


def _in_markdown(name: str) -> str:
    """A label's name in a line of Markdown, as it is; an underscore within a word marks nothing there."""
    return re.sub(r"[\\`*\[\]<|~&]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", " ".join(name.split()))


def _few_digits(threshold: float) -> str:
    """Three digits, or as many as keep one that is neither 0 nor 1 from looking so."""
    texts = (f"{threshold:.{digits}g}" for digits in range(3, 18))
    return next((text for text in texts if float(text) not in (0, 1)), f"{threshold:g}")


def _emissions(run: dict) -> dict | None:
    """What the Hub takes for the carbon of a training."""
    if "seconds" not in run:
        return None
    grams = run["seconds"] / 3600 * WATTS[run["device"]] * run["units"] / 1000 * GRAMS
    return {
        "emissions": round(grams, 1),
        "source": f"an estimate: {WATTS[run['device']]} W for each GPU or CPU thread in use, {GRAMS} g a kWh",
        "training_type": "pre-training" if run["backbone"] in BACKBONE_PRESETS else "fine-tuning",
        "hardware_used": run["hardware"],
    }


def _cost(run: dict) -> str:
    """What the training took, in a sentence."""
    if "seconds" not in run:
        return ""
    time = timedelta(seconds=round(run["seconds"]))
    return (
        f"Up to these weights, {counted(run['epoch'], 'epoch')}, it took {time} (hours:minutes:seconds) on "
        f"{run['hardware']}: some {_emissions(run)['emissions']:.3g} g of CO2, by the estimate in the metadata; "
        "nothing was metered."
    )


def _calibration_note(calibration: dict | None) -> str:
    if calibration is None:
        return ""
    found, errors = calibration["thresholds"], calibration["ECE"]
    goal = "F1" if found["value"] is None else f"a {found['goal']} of {found['value']}"
    (cf1, of1), (old_cf1, old_of1) = (
        [f"{100 * found[state][key]:.1f}" for key in ("CF1", "OF1")] for state in ("held_out", "before")
    )
    text = (
        f"\nThresholds were chosen for {goal} on these same images, which flatters them: by cross-validation they\n"
        f"give CF1 {cf1} and OF1 {of1}, where before it was {old_cf1} and {old_of1}."
    )
    if found.get("missed"):
        text += f" The goal was missed: {found['missed']}."
    if not calibration.get("scaling"):
        return text
    return (
        f"{text} The scores were scaled to probabilities\n(Platt scaling), in the weights: the expected calibration "
        f"error is {errors['held_out']:.4f} by cross-validation, and was {errors['before']:.4f} before.\n"
        "Some ranges of scores may still be too high or too low: the "
        f"[reliability diagram]({RELIABILITY_FILE}) shows which."
    )


def _at_thresholds(evaluation: Evaluation) -> list[dict]:
    """Precision, recall and F1 at some thresholds."""
    rows = []
    for threshold in THRESHOLDS:
        metrics = multilabel_metrics(evaluation.scores, evaluation.targets, threshold)
        rows.append({"threshold": threshold} | {key: metrics[key] for key in DECISION_METRICS})
    return rows
