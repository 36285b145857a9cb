"""The Space in a real browser, by mouse and by keyboard, on a wide and on a phone's screen."""

import base64
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import yaml
from gradio_client import Client
from PIL import Image

from assocformer_hf import Tagger
from assocformer_hf.hub.create_space import create_space
from assocformer_hf.hub.handler import MAX_BYTES
from benchmarks.serving import running_space
from tests.conftest import ROOT

PHOTOGRAPHS = ROOT / "model_cards/assocformer-efficientnet-lite0-mirflickr"
SCENES = ROOT / "model_cards/assocformer-swin-tiny-scenes"
SIGNED = r"[+−]\d+\.\d\d"
SCREENS = {"wide": (1280, "light"), "phone": (390, "dark")}
PAINTED = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(value => value)"
WHOLE = "[...document.images].filter(image => image.checkVisibility()).every(image => image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    create_space(folder, str(PHOTOGRAPHS))
    with running_space(folder) as (url, _):
        yield url


@contextmanager
def visit(browser, url: str, screen: str = "wide"):
    """A page of the Space; at its end there was no error in it, no request to elsewhere, and nothing sticks out."""
    width, scheme = SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(60_000)
    errors, foreign = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request", lambda sent: foreign.append(sent.url) if not sent.url.startswith((url, "data:", "blob:")) else None
    )
    page.goto(url)
    page.get_by_role("heading", level=1).wait_for()
    yield page
    assert errors == []
    assert foreign == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WHOLE)
    page.close()


def signed(text: str) -> float:
    """A number as the page writes it."""
    return float(text.replace("−", "-"))


def found(page) -> list[str]:
    """The labels that are given."""
    page.wait_for_function("/^(?!Looking)./.test(document.querySelector('.said').textContent)")
    return page.locator(".found button span:first-child").all_inner_texts()


def test_the_header_takes_any_title(tmp_path):
    create_space(tmp_path, "org/name", title='Birds: "which, and why" {# 1 #}')
    header = (tmp_path / "README.md").read_text(encoding="utf-8").split("---")[1]
    values = yaml.safe_load(header)
    assert (values["title"], values["models"]) == ('Birds: "which, and why" {# 1 #}', ["org/name"])


def test_the_space_of_a_folder_finds_it_from_everywhere(tmp_path):
    create_space(tmp_path / "space", os.path.relpath(PHOTOGRAPHS))
    assert repr(str(PHOTOGRAPHS.resolve())) in (tmp_path / "space/app.py").read_text(encoding="utf-8")


def test_small_pictures_are_without_what_was_noted_in_their_files(tmp_path):
    create_space(tmp_path / "space", str(SCENES))
    Image.new("RGB", (90, 60)).save(tmp_path / "noted.jpg", comment=b"Jane Doe, 52.5 N 13.4 E")
    script = "import sys; sys.path.insert(0, '.'); import app; print(app.reduced(app.Image.open('../noted.jpg'), 40))"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "space", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = base64.b64decode(done.stdout.strip().partition(",")[2])
    assert Image.open(io.BytesIO(content)).size == (40, 27)
    assert b"Jane Doe" not in content


@pytest.mark.parametrize("screen", SCREENS)
def test_a_label_answers_where_and_why_without_a_mouse(space, browser, screen):
    temple = PHOTOGRAPHS / "samples/temple.jpg"
    tagged = Tagger(PHOTOGRAPHS)(temple)
    with visit(browser, space, screen) as page:
        page.get_by_role("button", name="temple").focus()
        page.keyboard.press("Enter")
        assert found(page) == tagged.labels
        assert not page.locator(".frame.lit").count()
        first = page.locator(".found button").first
        first.focus()
        page.keyboard.press("Enter")
        page.locator(".frame.lit canvas").wait_for()
        assert page.locator("canvas").evaluate(PAINTED)
        assert first.get_attribute("aria-pressed") == "true"
        assert page.evaluate("document.activeElement.dataset.label") == tagged.labels[0]  # the focus stays
        why = page.locator(".why").inner_text()
        assert why == f"{tagged.labels[0]} {tagged.scores[0]:.2f}: from the picture itself."
        page.keyboard.press("Enter")
        assert not page.locator(".frame.lit").count()

        page.get_by_role("slider").focus()
        page.keyboard.press("End")
        assert found(page) == []
        assert f"Closest is {tagged.labels[0]}" in page.locator(".nothing").inner_text()
        assert page.get_by_role("status").first.inner_text() == "Nothing found."
        page.keyboard.press("Home")
        assert len(found(page)) == 24


def test_a_label_between_its_threshold_and_one_half_is_given_and_explained_so(space, browser):
    with visit(browser, space, "wide") as page:
        page.get_by_role("button", name="rocket").click()
        clouds = page.locator(".found button", has_text="clouds")
        clouds.click()
        page.locator(".frame.lit canvas").wait_for()
        assert 0.3 < float(clouds.locator(".number").inner_text()) < 0.5
        assert page.locator(".why").inner_text().endswith(": from the picture itself.")


def test_several_pictures_and_those_that_cannot_be_read(space, browser, tmp_path):
    content = (PHOTOGRAPHS / "samples/cat.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(content[: len(content) // 3])
    (tmp_path / "heavy.jpg").write_bytes(content + bytes(MAX_BYTES))
    Image.new("L", (10_000, 10_000)).save(tmp_path / "large.png")
    with Image.open(PHOTOGRAPHS / "samples/rocket.jpg") as image:
        image.save(tmp_path / "rocket.tif")  # which no browser shows
    files = [PHOTOGRAPHS / "samples/cat.jpg", *(tmp_path / name for name in ("broken.jpg", "heavy.jpg", "large.png"))]
    with visit(browser, space) as page:
        page.locator("input[type=file]").set_input_files([*files, tmp_path / "rocket.tif"])
        page.get_by_text("2 of 5 pictures are labelled.").wait_for()
        complaints = page.locator(".trouble p").all_inner_texts()
        assert complaints[0] == "broken.jpg: This is no image, or a broken one, or not of a known format."
        assert complaints[1] == "heavy.jpg: The file is too large: 20 MiB at most."
        assert complaints[2].startswith("large.png: The image is too large; at most 50 megapixels")
        assert page.locator(".strip .blank").all_inner_texts() == ["not readable"] * 3
        assert "animals" in found(page)
        page.locator(".strip button").last.click()
        assert "sky" in found(page)
        assert page.locator(".frame img").get_attribute("alt") == "rocket.tif"
        assert page.evaluate(WHOLE)
        page.locator("input[type=file]").set_input_files(tmp_path / "broken.jpg")
        page.get_by_text("No picture could be read.").wait_for()


def test_pictures_are_dropped_pasted_and_taken(space, browser):
    content = base64.b64encode((PHOTOGRAPHS / "samples/flower.jpg").read_bytes()).decode()
    script = """([kind, content]) => {
        const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0)), data = new DataTransfer();
        data.items.add(new File([bytes], `${kind}.jpg`, { type: 'image/jpeg' }));
        const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
        const event = kind === 'paste' ? new ClipboardEvent(kind, options) : new DragEvent(kind, options);
        document.querySelector('.drop').dispatchEvent(event);
    }"""
    with visit(browser, space) as page:
        for count, kind in enumerate(("drop", "paste"), start=1):
            page.evaluate(script, [kind, content])
            page.wait_for_function(f"document.querySelector('.frame img').alt === '{kind}.jpg'")
            assert "flower" in found(page)
            assert page.locator(".strip button").count() == count
        page.get_by_role("button", name="Take a photograph").click()
        page.get_by_role("button", name="Take it").click()
        page.wait_for_function("document.querySelector('.frame img').alt === 'photograph.jpg'")
        assert not page.locator("dialog[open]").count()


def test_programs_and_requests_that_are_too_large(space):
    picture = (PHOTOGRAPHS / "samples/cat.jpg").read_bytes()
    client = Client(space, verbose=False)
    rows = client.predict(base64.b64encode(picture).decode(), api_name="/tag")
    assert (rows[0]["label"], len(rows)) == ("animals", 24)
    (refused,) = client.predict("/etc/passwd", api_name="/tag")
    assert refused["error"]["code"] == "bad_image"
    connection = http.client.HTTPConnection(space.split("/")[2], timeout=60)
    connection.putrequest("POST", "/gradio_api/component_server")
    connection.putheader("Content-Length", str(3 * MAX_BYTES))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.slow
def test_a_model_whose_a_is_worth_it_shows_it(browser, tmp_path):
    """Of a model without attention: places by hiding squares; own thresholds; the graph; which labels did most."""
    shutil.copytree(SCENES, tmp_path / "model")
    config = json.loads((SCENES / "config.json").read_text())
    own = {"person": 0.99, "bus": 0.01}
    config["label_thresholds"] = [own.get(name, 0.5) for name in config["id2label"].values()]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    loss = {"mAP": 0.9, "lost": 0.02, "low": 0.01, "high": 0.03}
    metrics = json.loads((SCENES / "metrics.json").read_text())
    metrics["association"]["worth"] = {"half": loss, "mean": loss}
    (tmp_path / "model/metrics.json").write_text(json.dumps(metrics))
    create_space(tmp_path / "space", str(tmp_path / "model"))
    with running_space(tmp_path / "space") as (url, _), visit(browser, url) as page:
        page.locator("input[type=file]").set_input_files(SCENES / "samples/1.jpg")
        assert "bus" in found(page)
        assert "person" not in found(page)
        page.get_by_role("img", name="Association graph").wait_for()
        assert "the model loses 2.00 points of mAP (95% interval 1.00 to 3.00)" in page.locator(".note").inner_text()
        table = page.locator(".bars button", has_text="diningtable")

        def answer_nothing_of_places(route):
            asks = "locate" in (route.request.post_data or "")
            route.fulfill(body="null", content_type="application/json") if asks else route.continue_()

        page.route("**/component_server/", answer_nothing_of_places)
        table.click()
        page.get_by_text("1.jpg: the server does not say where; click the label again.").wait_for()
        assert table.get_attribute("aria-pressed") == "false"
        page.unroute("**/component_server/")
        table.click()
        page.locator(".frame.lit canvas").wait_for()
        assert page.locator("canvas").evaluate(PAINTED)
        assert "orange: against it" in page.locator("figcaption").inner_text()
        why = page.locator(".why").inner_text()
        parts, named, logit = re.search(r"In numbers: (.*) \(most of it (.*)\), together (.*)\.", why).groups()
        assert named
        picture, others = (signed(part) for part in re.findall(SIGNED, parts))
        assert picture + others == pytest.approx(signed(logit), abs=0.015)
        score = float(re.match(r"diningtable (\d\.\d\d): ", why)[1])
        assert 1 / (1 + np.exp(-signed(logit))) == pytest.approx(score, abs=0.01)
        own = page.get_by_role("checkbox")
        assert own.is_checked()
        page.get_by_role("slider").focus()
        page.keyboard.press("ArrowLeft")
        assert "person" in found(page)
        assert "bus" not in found(page)
        assert not own.is_checked()
        own.check()
        assert "person" not in found(page)


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
def test_nobody_is_left_out(space, browser, violations, screen, tmp_path):
    """axe-core finds nothing wrong, whatever the page shows."""
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with visit(browser, space, screen) as page:
        assert violations(page) == []
        page.locator("input[type=file]").set_input_files([PHOTOGRAPHS / "samples/cat.jpg", tmp_path / "broken.jpg"])
        page.get_by_text("1 of 2 pictures are labelled.").wait_for()
        page.locator(".found button").first.click()
        assert violations(page) == []
        page.get_by_role("slider").press("End")
        assert violations(page) == []
        page.get_by_role("button", name="Take a photograph").click()
        page.get_by_role("button", name="Take it").wait_for()
        assert violations(page) == []
