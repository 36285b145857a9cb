"""The documentation: built whole, notebooks included, with warnings as errors; then its pages are looked through."""

import ast
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import zlib
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import assocformer_hf
from assocformer_hf.commands.main import VERBS
from assocformer_hf.training.arguments import ARGUMENTS
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason='needs pip install -e ".[docs]"'),
]
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page loads, what it links to, and the anchors that it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loaded, self.links, self.anchors = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if attributes.get(LOADED.get(tag)):
            self.loaded.append(attributes[LOADED[tag]])
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built pages; `ASSOCFORMER_SITE` names a folder to keep them in."""
    folder = Path(os.environ.get("ASSOCFORMER_SITE") or tmp_path_factory.mktemp("site") / "html")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_nothing_is_loaded_from_outside(site, pages):
    outside = [(path.name, url) for path, page in pages.items() for url in page.loaded if urlsplit(url).netloc]
    foreign = re.compile(r"(@import|url\()\s*['\"]?(https?:)?//")
    styles = [path for path in site.rglob("*.css") if foreign.search(path.read_text())]
    assert (outside, styles) == ([], [])
    assert "<math" in (site / "method.html").read_text(encoding="utf-8")


def test_the_command_s_page_has_every_verb_and_its_options(site):
    page = (site / "command.html").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f'id="assocformer-{verb}"' not in page] == []
    options = [option.name for owner in ARGUMENTS for option in fields(owner)]
    assert [name for name in options if name != "output_dir" and f"--{name}" not in page] == []


def test_every_link_within_the_site_leads_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            whole = target.is_file() and (
                not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors
            )
            if not whole:
                broken.append((path.name, link))
    assert broken == []


def test_every_public_name_is_in_the_reference(site):
    # Four lines about the file, then the compressed entries: name, domain:role, priority, place, title.
    entries = zlib.decompress((site / "objects.inv").read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    documented = {name for name, kind, *_ in map(str.split, entries) if kind.startswith("py:")}
    public = set()
    for module in pkgutil.walk_packages(assocformer_hf.__path__, "assocformer_hf."):
        spec = importlib.util.find_spec(module.name)
        if module.ispkg or module.name.endswith("__main__"):
            continue
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        kinds = (ast.ClassDef, ast.FunctionDef)
        public |= {f"{module.name}.{node.name}" for node in tree.body if isinstance(node, kinds) if node.name[0] != "_"}
    assert len(public) > 200
    assert public - documented == set()
    index = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert [name for name in dir(assocformer_hf) if f".{name}`" not in index] == []
