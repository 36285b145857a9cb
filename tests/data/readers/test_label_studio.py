"""Label Studio's exports, with their odd cases."""

import json

import pytest

from assocformer_hf.data.load import load_multilabel_dataset, load_split
from assocformer_hf.data.schema import DataError
from tests.data.readers.files import by_file, labels_by_file, picture


def region(kind, *labels):
    return {"type": kind, "from_name": "x", "value": {"x": 1, "y": 2, kind: list(labels)}}


def test_label_studio_with_regions_disagreement_and_local_files(tmp_path):
    for name in ("one.jpg", "two.jpg", "three.jpg", "four.jpg", "sub/five.jpg"):
        picture(tmp_path / "images" / name)
    tasks = [
        ("/data/upload/7/0a1b2c3d-one.jpg", [[region("rectanglelabels", "car"), region("choices", "day", "wet")]]),
        ("/data/local-files/?d=somewhere/two.jpg", [[region("choices", "day")], [region("choices", "night")]]),
        ("s3://bucket/path/three.jpg", [[region("taxonomy", ["place", "road"], ["place", "city"])]]),
        ("http://host/four.jpg", []),
        ("http://host/sub/five.jpg?token=1", [[{"type": "textarea", "value": {"text": ["a remark"]}}]]),
    ]
    content = [
        {"id": i, "data": {"text": "a caption", "image": url}, "annotations": [{"result": r} for r in results]}
        for i, (url, results) in enumerate(tasks)
    ]
    content[1]["annotations"].append({"was_cancelled": True, "result": [region("choices", "wet")]})
    (tmp_path / "export.json").write_text(json.dumps(content))
    splits = load_multilabel_dataset(tmp_path, validation_share=0.25)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert found == {
        "one.jpg": (["car", "day", "wet"], []),
        "two.jpg": ([], ["day", "night"]),
        "three.jpg": (["city", "road"], []),
        "five.jpg": ([], []),
    }


def test_images_in_folders_of_splits_are_of_these(tmp_path):
    names = ("train/a.jpg", "train/b.jpg", "val/c.jpg")
    for name in names:
        picture(tmp_path / "images" / name)
    tasks = [
        {"id": i, "data": {"image": f"s3://bucket/{name}"}, "annotations": [{"result": [region("choices", "cat")]}]}
        for i, name in enumerate(names)
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    splits = load_multilabel_dataset(tmp_path)
    assert {key: list(labels_by_file(split)) for key, split in splits.items()} == {
        "train": ["a.jpg", "b.jpg"],
        "validation": ["c.jpg"],
    }


def test_label_studio_in_its_short_form(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / name)
    rows = [
        {"image": "/data/upload/1/a.jpg", "id": 1, "choice": "cat", "caption": "no label", "annotator": 1},
        {"image": "/data/upload/1/b.jpg", "id": 2, "choice": {"choices": ["cat", "dog"]}, "annotator": 1},
        {"image": "/data/upload/1/c.jpg", "id": 3, "label": [{"rectanglelabels": ["dog"], "x": 1}], "annotator": 1},
        {"image": "/data/upload/1/b.jpg", "id": 2, "choice": "cat", "annotator": 2},  # who sees no dog
    ]
    (tmp_path / "min.json").write_text(json.dumps(rows))
    splits = load_multilabel_dataset(tmp_path / "min.json", validation_share=0.34)
    assert sum(map(len, splits.values())) == 3
    found = by_file(splits)
    assert found == {"a.jpg": (["cat"], []), "b.jpg": (["cat"], ["dog"]), "c.jpg": (["dog"], [])}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/data/upload/1/gone.jpg", r"gone.jpg: missing; complete what .*export.json lists"),
        ("../../secret.jpg", r"secret.jpg: missing"),
        ("no image", r"export.json: task 5: no image among image"),
    ],
)
def test_label_studio_images_that_are_not_there(tmp_path, url, message):
    task = {"id": 5, "data": {"image": url}, "annotations": [{"result": [region("choices", "cat")]}]}
    (tmp_path / "inside").mkdir()
    picture(tmp_path / "secret.jpg")
    (tmp_path / "inside/export.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(tmp_path / "inside")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"type": "magic", "value": {"magic": ["cat"]}}, "task 5: a result of an unknown kind, 'magic'"),
        ({"value": {"choices": ["cat"]}}, "a result of an unknown kind, None"),
        (region("choices", 3), "choices is not a list of names"),
        ({"type": "rectanglelabels", "value": None}, "a result of kind 'rectanglelabels' without a value"),
    ],
)
def test_regions_of_an_unknown_kind_are_refused(tmp_path, result, message):
    picture(tmp_path / "a.jpg")
    task = {"id": 5, "data": {"image": "a.jpg"}, "annotations": [{"result": [region("choices", "dog"), result]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match=message):
        load_multilabel_dataset(tmp_path)


def test_every_kind_of_labels_counts(tmp_path):
    kinds = ("hypertextlabels", "bitmasklabels", "vectorlabels", "timeserieslabels")
    tasks = []
    for i, kind in enumerate(kinds):
        picture(tmp_path / f"{i}.jpg")
        results = [region(kind, kind), {"type": "rectangle", "value": {"x": 1}}, {"type": "relation"}]
        tasks.append({"id": i, "data": {"image": f"{i}.jpg"}, "annotations": [{"result": results}]})
    tasks.append({"id": 9, "data": {"image": "9.jpg"}, "annotations": []})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    splits = load_multilabel_dataset(tmp_path, validation_share=0.5)
    found = labels_by_file(splits["train"]) | labels_by_file(splits["validation"])
    assert found == {f"{i}.jpg": ([kind], []) for i, kind in enumerate(kinds)}
    assert splits.summary.left_out == {"1 tasks": "nobody has annotated them"}


def short(folder, *values) -> dict[str, tuple[list[str], list[str]]]:
    """The labels of tasks in the short form with what they say beside the image."""
    rows = [{"image": f"/data/upload/1/{i}.jpg", "id": i, "annotator": 1} | value for i, value in enumerate(values)]
    for i in range(len(rows)):
        picture(folder / f"{i}.jpg")
    (folder / "min.json").write_text(json.dumps(rows))
    return labels_by_file(load_split(folder, "all"))


def test_single_choices_of_a_question_with_a_name_of_its_own_count(tmp_path):
    """Several choices are a dictionary, and one of the same question is text."""
    found = short(tmp_path, {"animals": "cat"}, {"animals": {"choices": ["cat", "dog"]}}, {"choice": ["sofa"]})
    assert found == {"0.jpg": (["cat"], []), "1.jpg": (["cat", "dog"], []), "2.jpg": (["sofa"], [])}
    assert short(tmp_path, {"choice": "cat", "note": "grey"}, {}) == {"0.jpg": (["cat"], []), "1.jpg": ([], [])}
    in_regions = [{"animals": [{"choices": ["cat"], "x": 1}]}, {"animals": ["cat", "dog"]}]
    assert short(tmp_path, *in_regions) == {"0.jpg": (["cat"], []), "1.jpg": (["cat", "dog"], [])}
    for question in ("label", "boxes"):
        boxes = [{"caption": "x", question: [{"rectanglelabels": ["cat"]}]}, {"caption": "y", question: []}]
        assert short(tmp_path, *boxes) == {"0.jpg": (["cat"], []), "1.jpg": ([], [])}
    left_out = load_multilabel_dataset(tmp_path, validation_share=0.5).summary.left_out
    assert left_out == {"the text 'caption'": "may be data of the tasks, such as a caption"}
    for animals in ("cat", ["cat", "dog"]):
        with pytest.raises(
            DataError, match="task 1: no labels, but .*cat.* as 'animals', which may be a single choice"
        ):
            short(tmp_path, {"choice": "dog"}, {"animals": animals})


def test_one_name_of_two_questions_is_refused(tmp_path):
    answers = [{"cat": {"choices": ["yes"]}, "dog": {"choices": ["no"]}}, {"cat": "no", "dog": "yes"}]
    with pytest.raises(DataError, match="'(yes|no)' is a choice of 'cat' and of 'dog', and would become one label"):
        short(tmp_path, *answers)
    renamed = short(tmp_path, {"choice": {"choices": ["cat"]}}, {"animals": {"choices": ["cat", "dog"]}})
    assert renamed == {"0.jpg": (["cat"], []), "1.jpg": (["cat", "dog"], [])}
    parts = [region("taxonomy", ["animal", "other"]), region("taxonomy", ["vehicle", "other"])]
    task = {"id": 5, "data": {"image": "0.jpg"}, "annotations": [{"result": parts}]}
    (tmp_path / "min.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match="'other' is a choice of 'x / animal' and of 'x / vehicle'"):
        load_split(tmp_path, "all")
