"""The tagger: images of every kind in, labels out."""

import base64
import io

import datasets
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from assocformer_hf import AssocFormerForMultiLabel, Tagger
from assocformer_hf.data.schema import DataError
from assocformer_hf.model.image_processing_assocformer import ImageError
from assocformer_hf.option_values import OptionError
from assocformer_hf.saved_files import ModelFileError
from tests.conftest import NAMES, ROOT

MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
SAMPLES = [MODEL / f"samples/{i}.jpg" for i in (1, 2, 3)]
EXPECTED = [
    {"bottle", "chair", "diningtable", "person"},
    {"chair", "sofa", "tvmonitor"},
    {"dog", "person", "pottedplant"},
]


@pytest.fixture(scope="module")
def tagger():
    return Tagger(MODEL, batch_size=2)


def test_labels_by_falling_score_for_paths_bytes_pictures_and_arrays(tagger):
    paths = tagger(SAMPLES)
    assert [set(one.labels) for one in paths] == EXPECTED
    assert [one.name for one in paths] == [str(path) for path in SAMPLES]
    for one in paths:
        assert one.scores == sorted(one.scores, reverse=True)
        assert min(one.scores) >= 0.5
        assert one.all_scores.shape == (20,)
        assert not one.is_guess
    pictures = [Image.open(path) for path in SAMPLES]
    for other in (
        [str(path) for path in SAMPLES],
        [path.read_bytes() for path in SAMPLES],
        pictures,
        [np.asarray(picture) for picture in pictures],
    ):
        for one, expected in zip(tagger(other), paths, strict=True):
            assert one.labels == expected.labels
            np.testing.assert_allclose(one.all_scores, expected.all_scores, atol=1e-5)
    assert tagger(SAMPLES[1]).labels == paths[1].labels


def test_thresholds_top_k_and_the_best_guess(tagger):
    (unsure,) = Tagger(MODEL, threshold=1.0)([SAMPLES[0]])
    assert unsure.is_guess
    assert unsure.labels == tagger(SAMPLES[0]).labels[:1] == ["person"]
    assert len(Tagger(MODEL, threshold=0.0, top_k=3)(SAMPLES[0]).labels) == 3
    for options, message in (
        ({"threshold": 1.5}, "threshold must be from 0 to 1; got 1.5"),
        ({"threshold": "0.5"}, "threshold must be from 0 to 1; got '0.5'"),
        ({"threshold": float("nan")}, "threshold must be from 0 to 1; got nan"),
        ({"top_k": 0}, "top_k must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"mixed_precision": "int8"}, "mixed_precision must be no, fp16 or bf16; got 'int8'"),
    ):
        with pytest.raises(OptionError, match=message):
            Tagger(MODEL, **options)


def test_each_label_has_its_own_threshold(create_model, tmp_path):
    create_model(label_thresholds=[0.0, 1.0, 0.0, 1.0]).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((MODEL / "preprocessor_config.json").read_text())
    assert set(Tagger(tmp_path)(SAMPLES[0]).labels) == {NAMES[0], NAMES[2]}


def test_an_unreadable_image_of_a_list_is_reported_and_alone_raised(tagger, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    tagged = tagger([SAMPLES[0], tmp_path / "broken.jpg", b"neither", SAMPLES[1]])
    assert [set(one.labels) for one in tagged] == [EXPECTED[0], set(), set(), EXPECTED[1]]
    assert [one.name for one in tagged[1:3]] == [str(tmp_path / "broken.jpg"), "image 2"]
    assert all("not an image" in one.error for one in tagged[1:3])
    with pytest.raises(ImageError, match="broken.jpg: cannot be read as an image"):
        tagger(tmp_path / "broken.jpg")
    assert tagger([]) == []
    assert all(one.error for one in tagger([b"a", b"b"]))


def test_arrays_of_other_kinds_are_reported_alone(tagger):
    picture = np.asarray(Image.open(SAMPLES[0]))
    tagged = tagger([picture / 255, picture[:, :, :1], picture, picture[None]])
    assert [bool(one.error) for one in tagged] == [True, True, False, True]
    assert "an array must be (height, width, 3) in uint8, not (256, 256, 3) in float64" in tagged[0].error


def test_a_picture_without_pixels_is_reported_alone(tagger):
    """As a detector's box of no width gives it."""
    whole = Image.open(SAMPLES[0])
    tagged = tagger([whole, whole.crop((10, 10, 10, 50)), np.zeros((0, 5, 3), np.uint8), {"path": None}])
    assert [bool(one.error) for one in tagged] == [False, True, True, True]
    assert "0 x 40 pixels: nothing to see" in tagged[1].error


def test_a_picture_with_more_pixels_than_are_allowed_is_not_decoded(tagger):
    """In any form, alone and in a list, and to be explained."""
    size = 256 * 256
    small = Tagger(MODEL, max_pixels=size - 1)
    picture = Image.open(SAMPLES[0])
    forms = [SAMPLES[0], SAMPLES[0].read_bytes(), picture, np.asarray(picture), {"bytes": SAMPLES[0].read_bytes()}]
    tagged = small([*forms, picture.crop((0, 0, 256, 255))])
    assert all("256 x 256 pixels, which is more than 65,535 pixels" in one.error for one in tagged[:-1])
    assert tagged[-1].labels
    for call in (small, small.explain):
        with pytest.raises(ImageError, match="1.jpg: cannot be read as an image .256 x 256 pixels, which is more than"):
            call(SAMPLES[0])
    assert set(Tagger(MODEL, max_pixels=size)(SAMPLES[0]).labels) == EXPECTED[0]
    for wrong in (0, 2**40, 0.5):
        with pytest.raises(OptionError, match="max_pixels must be"):
            Tagger(MODEL, max_pixels=wrong)


def test_a_picture_that_is_cut_off_is_reported_alone(tagger):
    content = SAMPLES[0].read_bytes()
    whole, cut_off = (Image.open(io.BytesIO(part)) for part in (content, content[: len(content) // 2]))
    tagged = tagger([whole, cut_off])
    assert [bool(one.error) for one in tagged] == [False, True]
    with pytest.raises(ImageError, match="truncated"):
        tagger(Image.open(io.BytesIO(content[: len(content) // 2])))


def test_a_file_that_is_open_as_text_is_reported_alone(tagger):
    with SAMPLES[0].open("rb") as binary, SAMPLES[1].open() as text:
        tagged = tagger([binary, text])
    assert (tagged[0].error, tagged[1].error) == (None, "a file that is open as text; open it with mode 'rb'")


def test_text_that_is_no_file_is_refused_without_repeating_it(tagger):
    encoded = base64.b64encode(SAMPLES[0].read_bytes()).decode()
    texts = ["http://example.com/a.jpg", f"data:image/jpeg;base64,{encoded}", encoded]
    tagged = tagger([SAMPLES[0], *texts])
    assert tagged[0].error is None
    for text, one in zip(texts, tagged[1:], strict=True):
        assert one.error == "URLs and Base64 are not opened; give the file, or its bytes"
        assert one.name == f"{text[:40]}…"
    assert tagger(base64.b64decode(encoded)).labels == tagged[0].labels


def test_scores_that_are_no_numbers_are_no_labels(create_model, tmp_path):
    model = create_model()
    model.head.embedding.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((MODEL / "preprocessor_config.json").read_text())
    tagger = Tagger(tmp_path)
    with pytest.raises(DataError, match="1.jpg: the model gives scores that are no numbers"):
        tagger(SAMPLES[0])
    assert [one.error for one in tagger(SAMPLES)] == ["the model gives scores that are no numbers"] * len(SAMPLES)
    with pytest.raises(DataError, match="scores that are no numbers"):
        tagger.explain(SAMPLES[0])
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"metrics.json: cannot be read"):
        Tagger(tmp_path).explain(SAMPLES[0])


@pytest.mark.parametrize("option", ["top_k", "batch_size"])
def test_a_fraction_of_an_image_or_label_is_refused(option):
    with pytest.raises(OptionError, match=f"{option} must be a whole number; got 1.5"):
        Tagger(MODEL, **{option: 1.5})


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="has no config.json and no weights .* give a folder that train or calib"):
        Tagger(tmp_path)
    with pytest.raises(ModelFileError, match="no such folder; give one that train or calibrate wrote, or a Hub id"):
        Tagger(tmp_path / "nope")
    with pytest.raises(ModelFileError, match="nope: neither a folder of a model nor a model that can be had from"):
        Tagger("nope")


def test_it_maps_batches_of_datasets(tagger):
    contents = [path.read_bytes() for path in SAMPLES]
    rows = datasets.Dataset.from_dict({"image": [*contents, b"broken"], "id": [1, 2, 3, 4]})
    tagged = rows.map(tagger, batched=True, batch_size=3)
    assert tagged["id"][:] == [1, 2, 3, 4]
    assert [set(labels) for labels in tagged["labels"]] == [*EXPECTED, set()]
    assert tagged["error"][:3] == [""] * 3
    assert "not an image" in tagged["error"][3]
    features = datasets.Features({"image": datasets.Image(decode=False), "id": datasets.Value("int64")})
    undecoded = datasets.Dataset.from_dict(rows[:], features=features)
    assert undecoded.map(tagger, batched=True)["scores"][:] == tagged["scores"][:]
    with pytest.raises(DataError, match=r"a dataset is tagged by dataset.map\(tagger, batched=True\)"):
        tagger(undecoded)
    assert [one.labels for one in tagger(row for row in undecoded["image"])] == tagged["labels"][:]
    assert tagger(bytearray(contents[0])).labels == tagged["labels"][0]


@pytest.mark.parametrize(
    "image", [str(SAMPLES[0]), SAMPLES[0], {"bytes": None, "path": str(SAMPLES[0])}, np.zeros((8, 8, 3), np.uint8)]
)
def test_one_image_is_no_batch(tagger, image):
    """As `dataset.map(tagger)` gives it, where `batched=True` was forgotten."""
    with pytest.raises(DataError, match="the column 'image' holds one image, not those of a batch"):
        tagger({"image": image})


def test_a_batch_is_one_call():
    """Ray runs the calls of a wrapped class in one thread: a call inside another would wait for itself."""

    class Wrapped(Tagger):
        calls = 0

        def __call__(self, images):
            self.calls += 1
            return super().__call__(images)

    tagger = Wrapped(MODEL)
    assert [set(labels) for labels in tagger({"image": SAMPLES})["labels"]] == EXPECTED
    assert tagger.calls == 1


def test_an_explanation_is_of_the_same_scores(tagger):
    explanation = tagger.explain(SAMPLES[0])
    tagged = tagger(SAMPLES[0])
    np.testing.assert_allclose(explanation.scores, tagged.all_scores, atol=1e-6)
    assert [one.label for one in explanation.labels] == tagged.labels
    assert explanation.places is None
    strict = Tagger(MODEL, threshold=0.99)
    assert [one.label for one in strict.explain(SAMPLES[0]).labels] == strict(SAMPLES[0]).labels


def test_a_model_with_attention_says_where(create_model, tmp_path):
    create_model(pooling="attention").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((MODEL / "preprocessor_config.json").read_text())
    tagger = Tagger(tmp_path)
    explanation = tagger.explain(SAMPLES[0], ["cat"])
    model: AssocFormerForMultiLabel = tagger.model
    pixels = tagger.processor(SAMPLES[0], return_tensors="pt")["pixel_values"].to(tagger.device)
    np.testing.assert_allclose(explanation.places, model.explain_places(pixels)[0].cpu().numpy(), rtol=1e-5, atol=1e-6)
    # The places are that part of the logit, less its constant.
    constant = model.head.fusion_weights[1] * model.head.embedding.bias[0].item()
    assert explanation.places[0].sum() + constant == pytest.approx(explanation.labels[0].image, abs=1e-5)


def test_a_picture_keeps_its_mode_and_its_turn(tagger):
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(SAMPLES[0]).rotate(180).save(file, "PNG", exif=exif)
    assert set(tagger(Image.open(file)).labels) == EXPECTED[0]


def test_a_column_of_a_batch_is_not_replaced(tagger):
    """`Dataset.map` would turn the predicted names into numbers of true labels."""
    classes = datasets.List(datasets.ClassLabel(names=tagger.label_names))
    features = datasets.Features({"image": datasets.Image(), "labels": classes})
    truth = datasets.Dataset.from_dict({"image": [str(SAMPLES[0])], "labels": [[0]]}, features=features)
    with pytest.raises(DataError, match='column \'labels\' already, .*rename_column\\("labels", "true_labels"\\)'):
        truth.map(tagger, batched=True)
    tagged = truth.rename_column("labels", "true_labels").map(tagger, batched=True)
    assert tagged["true_labels"][0] == [0]
    assert set(tagged["labels"][0]) == EXPECTED[0]


def test_open_files_are_read_and_other_things_refused(tagger):
    buffer = io.BytesIO(SAMPLES[0].read_bytes())
    expected = tagger(SAMPLES[0])
    np.testing.assert_array_equal(tagger(buffer).all_scores, expected.all_scores)
    copies = [io.BytesIO(buffer.getvalue()) for _ in range(2)]
    for one in tagger(copies):
        np.testing.assert_allclose(one.all_scores, expected.all_scores, atol=1e-5)
    for other in (memoryview(buffer.getvalue()), torch.zeros(3, 8, 8)):
        with pytest.raises(DataError, match=f"a {type(other).__name__} is no image; give bytes, a path"):
            tagger(other)
    with pytest.raises(DataError, match="a batch has its images in the column 'image'; it has 'bytes', 'path'"):
        tagger({"bytes": buffer.getvalue(), "path": None})


def test_what_is_no_image_is_called_so(tagger):
    frame = pandas.DataFrame({"image": [str(path) for path in SAMPLES]})
    with pytest.raises(DataError, match="as a DataFrame is, its column of images as a list"):
        tagger(frame)
    assert [set(one.labels) for one in tagger(frame["image"].tolist())] == EXPECTED
    with pytest.raises(DataError, match="a NoneType is no image; give bytes"):
        tagger(None)
    wrong = tagger([SAMPLES[0], torch.zeros(3, 8, 8), None])
    assert [one.error for one in wrong][1:] == [
        f"a {kind} is no image; give bytes, a path, a PIL image or an array" for kind in ("Tensor", "NoneType")
    ]
