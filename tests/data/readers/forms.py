"""One set of images and labels, written in each form of dataset that the package reads."""

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import datasets
import pyarrow
import pyarrow.parquet
import yaml


@dataclass
class Content:
    """Images, and for each one the names of its labels and of its unknown labels.

    Attributes:
        images: image files by split, in the order of their names.
        labels: for each file its labels.
        unknown: for each file its unknown labels.
        names: the label set.
    """

    images: dict[str, list[Path]]
    labels: dict[str, list[str]]
    unknown: dict[str, list[str]]
    names: list[str]


def coco_content(folder: Path) -> Content:
    """The real images of a folder in COCO's layout."""
    images, labels, names = {}, {}, []
    for split, own in (("train", "train2017"), ("validation", "val2017")):
        body = json.loads((folder / f"annotations/instances_{own}.json").read_text())
        name_of = {entry["id"]: entry["name"] for entry in body["categories"]}
        names = [name_of[i] for i in sorted(name_of)]
        file_of = {image["id"]: image["file_name"] for image in body["images"]}
        images[split] = [folder / own / name for name in sorted(file_of.values())]
        labels |= {name: [] for name in file_of.values()}
        for annotation in body["annotations"]:
            found = labels[file_of[annotation["image_id"]]]
            found += [name_of[annotation["category_id"]]] if name_of[annotation["category_id"]] not in found else []
    return Content(images, labels, dict.fromkeys(labels, ()), names)


def copy_images(content: Content, folder: Path, inside: str = ""):
    for split, files in content.images.items():
        (folder / inside / split).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder / inside / split / file.name)


def write_csv(path: Path, header: list[str], rows: list[list]):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def delimited(labels: list[str], delimiter: str = "|") -> str:
    """The labels in one text; those that contain the delimiter or a quote in quotes."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(labels)
    return line.getvalue() if labels else ""


def states(content: Content, file: Path, empty: bool = False) -> list:
    unknown = "" if empty else -1
    return [
        1 if n in content.labels[file.name] else unknown if n in content.unknown[file.name] else 0
        for n in content.names
    ]


def metadata_delimited(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        rows = [[f.name, delimited(content.labels[f.name]), delimited(content.unknown[f.name])] for f in files]
        write_csv(folder / split / "metadata.csv", ["file_name", "labels", "unknown"], rows)
    return {"delimiter": "|"}


def metadata_json_lines(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        rows = [
            {"file_name": f.name, "labels": content.labels[f.name], "unknown": content.unknown[f.name]} for f in files
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / split / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return {}


def json_lines_of_objects(content: Content, folder: Path) -> dict:
    """As `datasets` has images of objects: boxes, and the class of each."""
    copy_images(content, folder)
    for split, files in content.images.items():
        classes = {f.name: content.labels[f.name] for f in files}
        objects = {name: {"bbox": [[0, 0, 9, 9]] * len(own), "categories": own} for name, own in classes.items()}
        lines = [json.dumps({"file_name": name, "objects": own}) + "\n" for name, own in objects.items()]
        (folder / split / "metadata.jsonl").write_text("".join(lines))
    return {}


def csv_of_json_lists(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        rows = [
            [f"{split}/{f.name}", *(json.dumps(part[f.name]) for part in (content.labels, content.unknown))]
            for f in files
        ]
        write_csv(folder / f"{split}.csv", ["image", "tags", "unknown"], rows)
    return {}


def csv_of_columns(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        rows = [[f"{split}/{f.name}", *states(content, f, empty=True)] for f in files]
        write_csv(folder / f"{split}.csv", ["file_name", *content.names], rows)
    return {}


def parquet_of_columns(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        rows = [states(content, f) for f in files]
        columns = {name: [row[i] for row in rows] for i, name in enumerate(content.names)}
        table = pyarrow.table({"file_name": [f"{split}/{f.name}" for f in files], **columns})
        pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
    return {}


def one_csv_with_splits(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    rows = [[f"{split}/{f.name}", split, *states(content, f)] for split, files in content.images.items() for f in files]
    write_csv(folder / "images.csv", ["file_name", "split", *content.names], rows)
    return {}


def coco_json(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    (folder / "annotations").mkdir()
    for split, files in content.images.items():
        annotations = [
            {"id": 100 * i + k, "image_id": i, "category_id": content.names.index(name)}
            for i, f in enumerate(files)
            for k, name in enumerate(content.labels[f.name])
        ]
        body = {
            "images": [{"id": i, "file_name": f.name} for i, f in enumerate(files)],
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(content.names)],
        }
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(body))
    return {}


def voc_xml(content: Content, folder: Path) -> dict:
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for split, files in content.images.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{f.stem}\n" for f in files))
        (folder / "JPEGImages").mkdir(exist_ok=True)
        for f in files:
            shutil.copy(f, folder / "JPEGImages")
            objects = [(name, 0) for name in content.labels[f.name]] + [(name, 1) for name in content.unknown[f.name]]
            body = "".join(f"<object><name>{_text(n)}</name><difficult>{d}</difficult></object>" for n, d in objects)
            xml = f"<annotation><filename>{f.name}</filename>{body}</annotation>"
            (folder / f"Annotations/{f.stem}.xml").write_text(xml, encoding="utf-8")
    return {}


def voc_xml_beside(content: Content, folder: Path) -> dict:
    copy_images(content, folder)
    for split, files in content.images.items():
        for f in files:
            objects = "".join(f"<object><name>{_text(n)}</name></object>" for n in content.labels[f.name])
            xml = f"<annotation><filename>{f.name}</filename>{objects}</annotation>"
            (folder / split / f"{f.stem}.xml").write_text(xml, encoding="utf-8")
    return {}


def yolo(content: Content, folder: Path) -> dict:
    copy_images(content, folder, "images")
    for split, files in content.images.items():
        (folder / "labels" / split).mkdir(parents=True)
        for f in files:
            rows = [f"{content.names.index(name)} 0.5 0.5 0.2 0.2\n" for name in content.labels[f.name]]
            if rows or f == files[0]:  # an image without boxes may have an empty file, or none
                (folder / f"labels/{split}/{f.stem}.txt").write_text("".join(rows))
    body = {"names": content.names, "train": "images/train", "val": "images/validation"}
    (folder / "data.yaml").write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")
    return {}


def label_studio(content: Content, folder: Path) -> dict:
    """Two annotators, who disagree on what is unknown; the images as uploads with their prefix."""
    copy_images(content, folder, "images")
    tasks = []
    for f in content.images["train"]:
        first, second = content.labels[f.name], [*content.labels[f.name], *content.unknown[f.name]]
        results = [
            {"result": [{"type": "choices", "value": {"choices": labels}}] if labels else []}
            for labels in (first, second)
        ]
        url = f"/data/upload/3/train/{f.name}"
        tasks.append({"id": len(tasks), "data": {"image": url}, "annotations": results})
    (folder / "project.json").write_text(json.dumps(tasks), encoding="utf-8")
    return {"train_only": True, "data_dir": folder / "images"}


def cvat(content: Content, folder: Path) -> dict:
    copy_images(content, folder, "images")
    declared = "".join(f"<label><name>{_text(name)}</name></label>" for name in content.names)
    entries = "".join(
        f'<image id="{i}" name={quoteattr(f.name)} subset="{split}">'
        + "".join(f"<tag label={quoteattr(name)}/>" for name in content.labels[f.name])
        + "</image>"
        for split, files in content.images.items()
        for i, f in enumerate(files)
    )
    xml = f"<annotations><meta><project><labels>{declared}</labels></project></meta>{entries}</annotations>"
    (folder / "annotations.xml").write_text(xml, encoding="utf-8")
    return {}


def _splits(content: Content, column: str, kind, value: Callable) -> datasets.DatasetDict:
    features = datasets.Features({"photo": datasets.Image(), column: kind})
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {
                    "photo": [{"bytes": f.read_bytes(), "path": f.name} for f in files],
                    column: [value(content.labels[f.name]) for f in files],
                },
                features=features,
            )
            for split, files in content.images.items()
        }
    )


def saved_dataset(content: Content, folder: Path) -> dict:
    kind = datasets.List(datasets.ClassLabel(names=content.names))
    _splits(content, "tags", kind, lambda labels: labels).save_to_disk(str(folder))
    return {}


def parquet_with_objects(content: Content, folder: Path) -> dict:
    kind = {"category": datasets.List(datasets.ClassLabel(names=content.names))}
    for split, part in _splits(content, "objects", kind, lambda labels: {"category": labels}).items():
        part.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return {}


def webdataset(content: Content, folder: Path) -> dict:
    for split, files in content.images.items():
        with tarfile.open(folder / f"{split}-0000.tar", "w") as tar:
            for f in files:
                body = json.dumps({"labels": content.labels[f.name]}).encode()
                for name, data in ((f.name, f.read_bytes()), (f"{f.stem}.json", body)):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return {}


def _text(name: str) -> str:
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


WITH_UNKNOWN = (
    metadata_delimited, metadata_json_lines, csv_of_json_lists, csv_of_columns, parquet_of_columns,
    one_csv_with_splits, voc_xml, label_studio,
)  # fmt: skip
FORMS = (
    *WITH_UNKNOWN, coco_json, voc_xml_beside, yolo, cvat, saved_dataset, parquet_with_objects, webdataset,
    json_lines_of_objects,
)  # fmt: skip
