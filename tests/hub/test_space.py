"""The Space in a real browser, by mouse and by keyboard, on a wide and on a phone's screen."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from assocformer_hf.hub.create_space import create_space
from assocformer_hf.hub.handler import MAX_BYTES
from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium")
MODEL = ROOT / "model_cards/assocformer-swin-tiny-scenes"
SCREENS = {"wide": (1280, "light"), "phone": (390, "dark")}


@contextmanager
def running_space(folder: Path):
    """The address of the Space of a folder, run as its README says, where the package is not installed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(folder / "uploads")}
    script = "import runpy, sys; sys.modules['assocformer_hf'] = None; runpy.run_path('app.py', run_name='__main__')"
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {script}"],
        env=environment,
        cwd=folder,
        stdout=log,
        stderr=log,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < deadline
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()
        log.close()


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    folder = tmp_path_factory.mktemp("space")
    create_space(folder, str(MODEL))
    with running_space(folder) as (url, _):
        yield url


def test_the_header_takes_any_title(tmp_path):
    create_space(tmp_path, "org/name", title='Birds: "which, and why" {# 1 #}')
    header = (tmp_path / "README.md").read_text(encoding="utf-8").split("---")[1]
    values = yaml.safe_load(header)
    assert (values["title"], values["models"]) == ('Birds: "which, and why" {# 1 #}', ["org/name"])


@pytest.fixture(scope="module")
def strict_space(tmp_path_factory):
    """Of a model that hardly ever says `person`, and soon says `bus`."""
    folder = tmp_path_factory.mktemp("strict")
    shutil.copytree(MODEL, folder / "model")
    config = json.loads((MODEL / "config.json").read_text())
    own = {"person": 0.99, "bus": 0.01}
    config["label_thresholds"] = [own.get(name, 0.5) for name in config["id2label"].values()]
    (folder / "model/config.json").write_text(json.dumps(config))
    create_space(folder / "space", str(folder / "model"))
    with running_space(folder / "space") as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def troubled_files(tmp_path_factory) -> tuple[Path, Path, Path]:
    """A JPEG that was cut, a file of too many bytes, and a picture of 100 megapixels."""
    folder = tmp_path_factory.mktemp("files")
    content = (MODEL / "samples/1.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(content[: len(content) // 3])
    (folder / "heavy.jpg").write_bytes(content + bytes(MAX_BYTES))
    Image.new("L", (10_000, 10_000)).save(folder / "large.png")
    return folder / "broken.jpg", folder / "heavy.jpg", folder / "large.png"


def upload(page: Page, path: Path):
    remove = page.get_by_role("button", name=re.compile("Remove|Clear"))
    if remove.count():
        remove.first.click()
    page.locator("input[type=file]").first.set_input_files(path)


@pytest.mark.parametrize("screen", SCREENS)
def test_a_visitor_gets_labels_graph_and_reasons(space, browser, troubled_files, screen, tmp_path):
    width, scheme = SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    errors, foreign = [], []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request", lambda sent: foreign.append(sent.url) if not sent.url.startswith((space, "data:", "blob:")) else None
    )
    page.goto(space)
    status, bars = page.get_by_role("status").filter(has_text=re.compile(r"\w")), page.locator(".af li")

    upload(page, MODEL / "samples/1.jpg")
    expect(page.get_by_text("Evidence for")).to_be_visible(timeout=30_000)
    expect(status.last).to_contain_text("person")
    assert bars.count() >= 10
    expect(page.get_by_role("img", name="Association graph")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / f"{screen}.png", full_page=True)

    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    expect(status.last).to_contain_text("no label reaches the threshold")
    page.keyboard.press("Home")
    expect(status.last).to_contain_text("sheep")  # every label

    page.get_by_role("listbox").or_(page.get_by_role("combobox")).first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Evidence for")).not_to_contain_text("person (")
    reason = page.locator(".af").filter(has_text="Evidence for").inner_text()
    numbers = [float(number) for number in re.findall(r"[+-]\d+\.\d\d", reason)]
    parts, total = numbers[:-1], numbers[-1]
    assert sum(parts) == pytest.approx(total, abs=0.05)

    broken, heavy, large = troubled_files
    upload(page, broken)
    expect(page.get_by_role("alert")).to_contain_text("This is no image, or a broken one", timeout=30_000)
    upload(page, heavy)
    expect(page.get_by_role("alert")).to_contain_text("The file is too large: 20 MiB at most", timeout=30_000)
    upload(page, large)
    expect(page.get_by_role("alert")).to_contain_text("The image is too large; at most 50 megapixels", timeout=30_000)
    page.screenshot(path=tmp_path / f"{screen}-trouble.png", full_page=True)

    page.get_by_role("button", name=re.compile("Remove|Clear")).first.click()
    page.locator("button.gallery-item, .gallery button").first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Evidence for")).to_be_visible(timeout=30_000)
    assert errors == []
    assert foreign == []
    page.close()


def test_each_label_keeps_its_own_threshold_until_the_visitor_sets_one(strict_space, browser):
    page = browser.new_page()
    page.goto(strict_space)
    status, own = page.get_by_role("status").filter(has_text=re.compile(r"\w")), page.get_by_role("checkbox")
    upload(page, MODEL / "samples/1.jpg")
    expect(status.last).to_contain_text("bus", timeout=30_000)
    expect(status.last).not_to_contain_text("person")
    expect(own).to_be_checked()
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(status.last).to_contain_text("person")
    expect(status.last).not_to_contain_text("bus")
    expect(own).not_to_be_checked()
    own.check()
    expect(status.last).not_to_contain_text("person")
    page.close()
