"""The endpoint handler: what it answers, and what it refuses."""

import base64
import importlib.util
import io
import json
import math
import shutil
import struct
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoImageProcessor, pipeline

from assocformer_hf.data.images.decoding import decode_image
from assocformer_hf.data.images.transforms import create_image_processor
from assocformer_hf.hub import handler as shipped
from assocformer_hf.hub.handler import EndpointHandler
from tests.conftest import NAMES
from tests.hub.test_publish import example_folder

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FORBIDDEN = (  # prefixes of audit events
    "open",
    "os.listdir",
    "os.scandir",
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "urllib.Request",
    "ftplib",
    "smtplib",
)
_events: list[str] | None = None


def _record(event, arguments):
    if _events is not None and event.startswith(FORBIDDEN):
        _events.append(f"{event} {arguments}")


sys.addaudithook(_record)


def ask(handler, data):
    """The handler's answer, after which nothing was read, connected to or started."""
    global _events
    _events = []
    try:
        answer = handler(data)
        seen = list(_events)
    finally:
        _events = None
    assert seen == []
    return answer


def picture(mode: str = "RGB", size: tuple[int, int] = (90, 60)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, content: bytes = b"") -> bytes:
    """A PNG whose header promises a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", content)
    return buffer.getvalue()


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def folder(create_model, tmp_path_factory):
    return example_folder(
        create_model("tiny-cvt", label_thresholds=[0.1, 0.2, 0.9, 0.95]), tmp_path_factory.mktemp("endpoint") / "model"
    )


@pytest.fixture(scope="module")
def handler(folder):
    """The handler of the folder, as an endpoint imports it."""
    spec = importlib.util.spec_from_file_location("endpoint_handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = module.EndpointHandler(str(folder))
    loaded({"inputs": encoded(picture())})  # what torch and PIL load on first use is loaded
    for kind in FORMATS:
        loaded({"inputs": encoded(picture(), kind), "parameters": {"explain": True}})
    return loaded


def test_it_answers_what_the_widget_and_the_pipeline_answer(folder, handler):
    image = picture()
    expected = pipeline("image-classification", model=str(folder))(image)
    answer = ask(handler, {"inputs": encoded(image)})
    assert [set(row) for row in answer] == [{"label", "score"}] * len(NAMES)
    assert [row["score"] for row in answer] == sorted((row["score"] for row in answer), reverse=True)
    for row, other in zip(answer, expected, strict=True):
        assert row["label"] == other["label"]
        assert row["score"] == pytest.approx(other["score"], abs=1e-6)
    assert abs(sum(row["score"] for row in answer) - 1) > 0.01
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("kind", ["bytes", "bytearray", "base64", "base64 in lines", "data url", "PIL"])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_an_image_may_come_in_every_documented_form(handler, file_format, kind):
    content = encoded(picture(), file_format)
    inputs = {
        "bytes": content,
        "bytearray": bytearray(content),
        "base64": as_base64(content),
        "base64 in lines": base64.encodebytes(content).decode(),
        "data url": f"data:image/{file_format.lower()};base64,{as_base64(content)}",
        "PIL": Image.open(io.BytesIO(content)),
    }[kind]
    assert ask(handler, {"inputs": inputs}) == ask(handler, {"inputs": content})


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "I;16"])
@pytest.mark.parametrize("kind", FORMATS)
def test_it_decodes_as_the_training_does(handler, mode, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = (
        Image.fromarray((np.arange(5400).reshape(60, 90) * 12).astype(np.uint16)) if mode == "I;16" else picture(mode)
    )
    try:
        content = encoded(image, kind, exif=exif)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    expected = create_image_processor(64)(decode_image(content), return_tensors="pt")["pixel_values"][0]
    for source in (content, Image.open(io.BytesIO(content))):
        assert torch.equal(handler.pixels(source), expected)


def test_parameters_choose_among_the_labels(handler):
    content = encoded(picture())
    everything = {row["label"]: row["score"] for row in ask(handler, {"inputs": content})}
    middle = sorted(everything.values())[1]
    chosen = ask(handler, {"inputs": content, "parameters": {"threshold": middle}})
    assert {row["label"] for row in chosen} == {name for name, score in everything.items() if score >= middle}
    own = ask(handler, {"inputs": content, "parameters": {"threshold": "default"}})
    thresholds = dict(zip(NAMES, [0.1, 0.2, 0.9, 0.95], strict=True))
    assert {row["label"] for row in own} == {name for name, score in everything.items() if score >= thresholds[name]}
    assert len(ask(handler, {"inputs": content, "parameters": {"top_k": 2}})) == 2
    named = ask(handler, {"inputs": content, "parameters": {"labels": ["sofa", "cat"]}})
    assert {row["label"]: row["score"] for row in named} == {name: everything[name] for name in ("sofa", "cat")}


def test_an_explanation_adds_up_to_its_part_of_the_logit(folder, handler):
    content = encoded(picture())
    answer = ask(handler, {"inputs": content, "parameters": {"explain": True}})
    inputs = AutoImageProcessor.from_pretrained(folder)(images=picture(), return_tensors="pt").to(handler.model.device)
    with torch.inference_mode():
        logits = handler.model(**inputs).association_logits[0] - handler.model.head.association.readout.bias
        logits *= 0.5  # alpha of eq. 7
    for row in answer:
        total = sum(part["contribution"] for part in row["contributions"])  # 4 labels: all are named
        assert total == pytest.approx(logits[NAMES.index(row["label"])].item(), abs=1e-5)


class LargestTensor(TorchDispatchMode):
    """Notes the number of values of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, (tuple, list)) else [result]
        self.values = max([self.values, *(one.numel() for one in made if isinstance(one, torch.Tensor))])
        return result


def test_an_explanation_takes_one_pass_and_memory_of_the_answered_labels(create_model, tmp_path):
    names = {i: f"label {i}" for i in range(4000)}
    create_model(id2label=names).save_pretrained(tmp_path)
    create_image_processor(64).save_pretrained(tmp_path)
    large, passes = EndpointHandler(str(tmp_path)), []
    large.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    with LargestTensor() as largest:
        answer = large({"inputs": [encoded(picture())] * 2, "parameters": {"explain": True, "top_k": 20}})
    assert len(passes) == 1
    on_cpu = large.model.device.type == "cpu"  # the tiles of a GPU are larger
    assert largest.values < 4000**2 / (4 if on_cpu else 1)
    with torch.inference_mode():
        pixels = large.pixels(encoded(picture()))[None].to(large.model.device)
        expected = large.model.explain(pixels)[0]
    for row in answer[0]:
        strongest = expected[large.model.config.label2id[row["label"]]]
        for part in row["contributions"]:
            value = strongest[large.model.config.label2id[part["label"]]].item()
            assert part["contribution"] == pytest.approx(value, rel=1e-3, abs=1e-6)
        assert abs(row["contributions"][0]["contribution"]) == pytest.approx(strongest.abs().max().item(), rel=1e-3)
    assert len(answer[0]) == 20


def test_a_batch_keeps_its_order_and_its_errors_in_place(handler):
    first, second = encoded(picture()), encoded(picture(size=(30, 40)))
    answer = ask(handler, {"inputs": [first, b"broken", second]})
    assert answer[1]["error"]["code"] == "bad_image"
    for got, content in ((answer[0], first), (answer[2], second)):
        alone = ask(handler, {"inputs": content})
        assert [row["label"] for row in got] == [row["label"] for row in alone]
        assert [row["score"] for row in got] == pytest.approx([row["score"] for row in alone], abs=1e-5)


def test_large_photographs_go_together(handler):
    photograph = encoded(Image.new("L", (6000, 4000)), "JPEG")
    answer = ask(handler, {"inputs": [photograph] * 6})
    assert all(isinstance(one, list) for one in answer)


def test_it_serves_a_local_folder_only(tmp_path):
    with pytest.raises(ValueError, match="local folder"):
        EndpointHandler("org/name")


def test_it_serves_no_model_with_weights_missing(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model")
    weights = load_file(copy / "model.safetensors")
    del weights["head.embedding.bias"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="the weights lack head.embedding.bias; upload the model again"):
        EndpointHandler(str(copy))


PNG = encoded(picture())
HOSTILE = {
    "path": ("/etc/passwd", "bad_image"),
    "relative path": ("../../etc/passwd", "bad_image"),
    "windows path": ("C:\\Windows\\win.ini", "bad_image"),
    "home": ("~/.ssh/id_rsa", "bad_image"),
    "path that is base64": ("/etc/hostname123", "bad_image"),
    "file url": ("file:///etc/passwd", "bad_image"),
    "metadata service": ("http://169.254.169.254/latest/meta-data/", "bad_image"),
    "url": ("https://example.com/cat.jpg", "bad_image"),
    "ftp": ("ftp://example.com/cat.jpg", "bad_image"),
    "protocol-relative": ("//169.254.169.254/x", "bad_image"),
    "data url of text": ("data:text/plain;base64,aGVsbG8=", "bad_image"),
    "data url of svg": ("data:image/svg+xml;base64," + as_base64(b"<svg/>"), "bad_image"),
    "data url, not base64": ("data:image/png,%89PNG", "bad_image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "bad_image"),
    "svg string": ("<svg onload='x'/>", "bad_image"),
    "html": (b"<!doctype html><img src='http://169.254.169.254/'>", "bad_image"),
    "xml entity": (
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
        "bad_image",
    ),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\n", "bad_image"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "bad_image"),
    "zip": (zipped(PNG), "bad_image"),
    "zip bomb": (zipped(bytes(50_000_000)), "bad_image"),
    "gzip bomb": (zlib.compress(bytes(50_000_000)), "bad_image"),
    "png of 900 megapixels": (png(30_000, 30_000), "too_many_pixels"),
    "png of 100 megapixels": (png(10_000, 10_000, zlib.compress(bytes(30_001 * 10))), "too_many_pixels"),
    "png of 2**62 pixels": (png(2**31 - 1, 2**31 - 1), "too_many_pixels"),
    "png without pixels": (png(0, 0), "bad_image"),
    "cut png": (PNG[: len(PNG) // 2], "bad_image"),
    "png with a text of 50 MB": (
        PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))) + PNG[33:],
        "bad_image",
    ),
    "png of 40 million pixels in a row": (png(40_000_000, 1, zlib.compress(bytes(120_000_001))), "too_many_pixels"),
    "empty": (b"", "bad_image"),
    "empty string": ("", "bad_image"),
    "too many bytes": (bytes(shipped.MAX_BYTES + 1), "too_large"),
    "too long a string": ("A" * (shipped.MAX_BYTES * 3 // 2 + 4), "too_large"),
    "emoji": ("🐈" * 100, "bad_image"),
    "nul": ("\0" * 8, "bad_image"),
    "number": (7, "bad_image"),
    "nothing": (None, "bad_image"),
    "object": ({"url": "http://169.254.169.254/"}, "bad_image"),
    "nested list": ([["/etc/passwd"]], None),
    "huge batch": ([PNG] * 1000, "too_many_images"),
    "heavy batch": ([bytes(shipped.MAX_BYTES)] * 3, "too_large"),
    "batch of 40 megapixels each": ([png(8000, 5000)] * 16, "too_many_pixels"),
    "empty batch": ([], "bad_request"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused_in_plain_words(handler, name):
    content, code = HOSTILE[name]
    answer = ask(handler, {"inputs": content})
    error = (answer[0] if isinstance(answer, list) else answer)["error"]
    assert error["code"] == (code or "bad_image")
    assert 10 < len(error["message"]) < 200
    for leak in ("Traceback", "site-packages", "endpoint", "/tmp", "0x", "passwd", "169.254"):
        assert leak not in error["message"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"threshold": math.nan}, {"threshold": math.inf}, {"threshold": -0.1}, {"threshold": 1.5}, {"threshold": "0.5"},
        {"threshold": True}, {"threshold": [0.5]}, {"threshold": 10**400}, {"top_k": 0}, {"top_k": -1}, {"top_k": 2.5},
        {"top_k": True}, {"top_k": "3"}, {"labels": []}, {"labels": "cat"}, {"labels": ["cat", 1]},
        {"labels": ["unicorn"]}, {"labels": {"cat": 1}}, {"explain": 1}, {"explain": "yes"}, {"unknown": 1}, {1: 2}, [],
        "x", 3, math.nan,
    ],
    ids=str,
)  # fmt: skip
def test_bad_parameters_are_refused(handler, parameters):
    answer = ask(handler, {"inputs": PNG, "parameters": parameters})
    assert answer["error"]["code"] == "bad_parameter"


def test_a_fault_of_the_handler_is_logged_and_not_shown(handler, create_model, tmp_path, caplog):
    model = create_model("tiny-cvt")
    model.head.embedding.bias.data.fill_(math.nan)
    broken = type(handler)(str(example_folder(model, tmp_path / "broken")))
    answer = broken({"inputs": PNG})
    assert answer == {"error": {"code": "internal_error", "message": "the request could not be answered"}}
    assert "the model gives scores that are no numbers" in caplog.text


@pytest.mark.parametrize("data", [None, 1, "x", b"x", [], {}, {"image": PNG}], ids=lambda data: str(data)[:12])
def test_what_is_no_request_is_refused(handler, data):
    assert ask(handler, data)["error"]["code"] == "bad_request"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(["/", "..", "etc", "file://", "http://", "169.254.169.254", "\\", "%2e", "\n", " "]), max_size=8
    ),
)
START = [encoded(picture(size=(9, 6)), kind) for kind in FORMATS]


@st.composite
def damaged_images(draw) -> bytes:
    """An image file with bytes changed, cut out or put in."""
    content = bytearray(draw(st.sampled_from(START)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(content)


IMAGES = damaged_images() | PATHS | st.text(max_size=60) | st.binary(max_size=200) | damaged_images().map(as_base64)
PARAMETERS = st.fixed_dictionaries({}, optional=dict.fromkeys(("threshold", "top_k", "labels", "explain"), VALUES))
REQUESTS = VALUES | st.fixed_dictionaries(
    {"inputs": IMAGES | st.lists(IMAGES, max_size=4) | VALUES},
    optional={"parameters": PARAMETERS | VALUES},
)


@settings(
    max_examples=400, deadline=5000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=REQUESTS)
def test_no_generated_request_crashes_reads_or_connects(handler, data):
    answer = ask(handler, data)
    batch = isinstance(data, dict) and isinstance(data.get("inputs"), list) and isinstance(answer, list)
    for one in answer if batch else [answer]:
        if isinstance(one, dict):
            assert set(one["error"]) == {"code", "message"}
            assert one["error"]["code"] != "internal_error"
        else:
            assert all(set(row) >= {"label", "score"} for row in one)
    json.dumps(answer, allow_nan=False)
