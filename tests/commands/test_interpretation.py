"""The commands that explain, report and calibrate, as users run them."""

import json
import re
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

from assocformer_hf import AssocFormerForMultiLabel
from assocformer_hf.commands.main import main
from assocformer_hf.hub.calibrate_model import summary
from assocformer_hf.hub.handler import EndpointHandler
from tests.commands.commands import run
from tests.conftest import ROOT

PUBLISHED = ROOT / "model_cards/assocformer-swin-tiny-scenes"


def command(verb: str, **options) -> list[str]:
    words = [text for name, value in options.items() for text in (f"--{name}", *map(str, np.atleast_1d(value)))]
    return [sys.executable, "-m", "assocformer_hf", verb, *words]


@pytest.fixture(scope="module")
def calibrated(small_coco, tmp_path_factory):
    """The published model, calibrated label by label on 37 other images; what the command printed."""
    output = tmp_path_factory.mktemp("calibrated") / "model"
    options = {"model": PUBLISHED, "dataset": "coco", "data_dir": small_coco, "split": "val", "output": output}
    return output, run([*command("calibrate", **options, min_positives=3), "--per_label"]).stdout


def test_calibration_is_reported_and_saved(calibrated):
    output, printed = calibrated
    found = json.loads((output / "calibration.json").read_text())
    config = json.loads((output / "config.json").read_text())
    before = json.loads((PUBLISHED / "config.json").read_text())
    assert len(set(config["label_thresholds"])) > 3
    assert before["label_thresholds"] is None
    assert found["ECE"]["held_out"] < found["ECE"]["before"] / 2
    assert "scaled: logit divided by {temperature:.3f}, {offset:+.3f} added".format(**found["scaling"]) in printed
    assert f"{100 * found['thresholds']['held_out']['OF1']:.1f}" in printed
    assert len(found["thresholds"]["fold_gains"]["CF1"]) == 5
    assert Image.open(output / "reliability.png").size[0] > 500
    assert not (output / "README.md").exists()  # a card would speak of other images
    model = AssocFormerForMultiLabel.from_pretrained(output)
    for gained in (-0.01, 0.01):
        found["thresholds"]["held_out"]["CF1"] = found["thresholds"]["before"]["CF1"] + gained
        assert ("thresholds have a lower CF1 than those before" in summary(found, model)) == (gained < 0)


def test_pipeline_handler_and_predict_agree_on_scores_and_thresholds(calibrated, small_coco):
    output, _ = calibrated
    model = AssocFormerForMultiLabel.from_pretrained(output).eval()
    files = [small_coco / f"val/{i:04d}.jpg" for i in range(6)]
    printed = run(command("predict", model=output, images=files)).stdout
    tagger, handler = pipeline("image-classification", model=str(output)), EndpointHandler(str(output))
    processor, thresholds = AutoImageProcessor.from_pretrained(output), torch.tensor(model.config.label_thresholds)
    scaling = json.loads((output / "calibration.json").read_text())["scaling"]
    published = AssocFormerForMultiLabel.from_pretrained(PUBLISHED).eval()
    for file in files:
        inputs = processor(images=Image.open(file), return_tensors="pt")
        with torch.inference_mode():
            scores, logits = model(**inputs).logits.sigmoid()[0], published(**inputs).logits[0]
        expected = (logits / scaling["temperature"] + scaling["offset"]).sigmoid()
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)
        expected = {model.config.id2label[i] for i in (scores >= thresholds).nonzero().flatten().tolist()}
        for row in tagger(Image.open(file), top_k=20):
            assert row["score"] == pytest.approx(scores[model.config.label2id[row["label"]]].item(), abs=1e-5)
        request = {"inputs": file.read_bytes(), "parameters": {"threshold": "default", "top_k": 20}}
        answer = {row["label"]: row["score"] for row in handler(request)}
        assert answer.keys() == expected
        (line,) = (line for line in printed.splitlines() if line.startswith(str(file)))
        assert dict(re.findall(r"(\w+) (\d\.\d\d)", line.split("\t")[1])) == {
            name: f"{score:.2f}" for name, score in answer.items()
        }


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("calibrate", {"output": PUBLISHED}, "holds a model already; give a new folder as --output"),
        ("calibrate", {"output": "new", "goal": "accuracy", "dataset": "coco"}, "f1, precision or recall"),
        (
            "explain",
            {"images": PUBLISHED / "samples/1.jpg", "where": "sky"},
            "got 'sky'",
        ),
        ("explain", {"images": "nowhere.jpg"}, "nowhere.jpg: no such file or folder"),
        ("explain", {"images": PUBLISHED / "samples/1.jpg", "labels": "dogs"}, "label 'dogs'; did you mean 'dog'?"),
        ("evaluate", {"dataset": "coco", "train_split": "summer", "report": "new"}, "summer"),
    ],
)
def test_bad_options_end_in_one_line(small_coco, tmp_path, monkeypatch, capsys, verb, options, message):
    monkeypatch.chdir(tmp_path)
    if options.get("dataset") == "coco":
        options = options | {"data_dir": small_coco, "split": "val"}
    with pytest.raises(SystemExit) as ended:
        main(command(verb, model=PUBLISHED, **options)[3:])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert verb == "evaluate" or not any(tmp_path.iterdir())


def test_evaluate_writes_a_report(trained, small_coco, tmp_path):
    output, _ = trained
    options = {"model": output, "dataset": "coco", "data_dir": small_coco, "split": "val", "train_split": "train"}
    printed = run(command("evaluate", **options, report=tmp_path / "report", compare=PUBLISHED)).stdout
    assert f"report: {tmp_path / 'report/report.html'}" in printed
    metrics = json.loads((output / "metrics.json").read_text())
    content = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    assert f"<b>{100 * metrics['mAP']:.1f}</b>" in content
    assert "model on coco" in content
    assert f"model beside {PUBLISHED.name} on the same images" in content
    assert "64 × 64 pixels" in content
    assert f"evaluate --model {output}" in content
    assert "0000.jpg" in (tmp_path / "report/images.csv").read_text()
    assert {"association", "cooccurrence", "rank_difference"} <= set(np.load(tmp_path / "report/association.npz"))


def test_explain_says_why_and_where(small_coco, tmp_path):
    pytest.importorskip("captum", reason="captum comes with the extra `explain`")
    files = [PUBLISHED / "samples/1.jpg", small_coco / "val/0000.jpg"]
    options = {"labels": ["person", "chair"], "where": "occlusion", "output": tmp_path / "why"}
    printed = run(command("explain", model=PUBLISHED, images=files, **options)).stdout
    assert re.search(r"person 0\.9\d, predicted \(threshold 0\.50\): .*\n  logit \+", printed)
    assert "so no map of it is shown" in printed
    results = json.loads((tmp_path / "why/explanations.json").read_text())
    assert [row["file"] for row in results] == [str(file) for file in files]
    stored = np.load(tmp_path / "why/0000_1.npz")
    assert stored["association"].shape == stored["contributions"].shape == (20, 20)
    person = next(one for one in results[0]["explanations"] if one["label"] == "person")
    names = stored["label_names"].tolist()
    for one in person["influences"]:
        found = stored["contributions"][names.index("person"), names.index(one["label"])]
        assert one["contribution"] == pytest.approx(found, abs=1e-9)
    for name in ("0000_1.png", "0001_0000.png"):
        assert Image.open(tmp_path / "why" / name).size[0] > 400
    assert not list((tmp_path / "why").glob("*_association.png"))


def test_explain_leaves_out_what_it_cannot_read(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"no image")
    long_name = tmp_path / ("ü" * 120 + ".jpg")
    long_name.write_bytes((PUBLISHED / "samples/1.jpg").read_bytes())
    options = {"where": "none", "output": tmp_path / "why"}
    done = run(command("explain", model=PUBLISHED, images=[tmp_path / "0.jpg", long_name], **options))
    assert f"left out: {tmp_path / '0.jpg'}: cannot be read as an image" in done.stderr
    (row,) = json.loads((tmp_path / "why/explanations.json").read_text())
    assert row["file"] == str(long_name)
    assert len(list((tmp_path / "why").glob("0001_ü*.png"))) == 1
    other = command("explain", model=PUBLISHED, images=PUBLISHED / "samples/2.jpg", **options)
    refused = run(other, check=False)
    assert refused.returncode == 2
    assert "holds explanations of other images, such as" in refused.stderr
    run([*other, "--overwrite"])
    assert [row["file"] for row in json.loads((tmp_path / "why/explanations.json").read_text())] == [
        str(PUBLISHED / "samples/2.jpg")
    ]


def test_explanations_of_images_without_names_are_not_replaced_by_those_of_others(tmp_path):
    for i in (1, 2):
        rows = [{"bytes": (PUBLISHED / f"samples/{i}.jpg").read_bytes(), "path": None}, None]
        pyarrow.parquet.write_table(pyarrow.table({"image": rows}), tmp_path / f"{i}.parquet")
    first, other = (
        command("explain", model=PUBLISHED, images=tmp_path / f"{i}.parquet", where="none", output=tmp_path / "why")
        for i in (1, 2)
    )
    run(first)
    before = (tmp_path / "why/explanations.json").read_text()
    refused = run(other, check=False)
    assert refused.returncode == 2
    assert "holds explanations of other images, such as image 0 of the dataset" in refused.stderr
    assert (tmp_path / "why/explanations.json").read_text() == before
    run(first)
    run([*other, "--overwrite"])
    assert (tmp_path / "why/explanations.json").read_text() != before
