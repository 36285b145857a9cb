"""The tables of docs/benchmarks.md are those of the results, and a benchmark that did not run says so."""

import shutil

from benchmarks.pages import PAGE, write_page


def test_the_page_says_what_the_results_say(tmp_path, capsys):
    page = shutil.copy(PAGE, tmp_path / "benchmarks.md")
    write_page(page)
    assert page.read_text() == PAGE.read_text(), "run python -m benchmarks.pages"


def test_what_did_not_run_is_named(tmp_path, capsys):
    page = shutil.copy(PAGE, tmp_path / "benchmarks.md")
    write_page(page, tmp_path)
    assert page.read_text().count("**not run**") >= 8
    assert "EPYC" not in page.read_text()
