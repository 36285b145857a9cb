"""The tables of the README and the documentation are those of the results; what did not run says so."""

import shutil
from pathlib import Path

import pytest

from benchmarks.pages import ROOT, TABLES, write_pages


@pytest.fixture
def copies(tmp_path) -> Path:
    """A folder with the pages as they are."""
    for page in TABLES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def test_the_pages_say_what_the_results_say(copies, capsys):
    write_pages(copies)
    for page in TABLES:
        assert (copies / page).read_text() == (ROOT / page).read_text(), "run python -m benchmarks.pages"


def test_what_did_not_run_is_named(copies, tmp_path_factory, capsys):
    write_pages(copies, tmp_path_factory.mktemp("results"))
    for page, tables in TABLES.items():
        text = (copies / page).read_text()
        assert text.count("**not run**") >= len(tables) if page != "README.md" else "| not run |" in text
        assert "torch 2." not in text or page == "docs/transformers.md"
