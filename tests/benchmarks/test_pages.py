"""The tables of docs/benchmarks.md and the README are those of the results; what did not run says so."""

import shutil

from benchmarks.pages import PAGE, README, write_pages


def test_the_pages_say_what_the_results_say(tmp_path, capsys):
    page, readme = shutil.copy(PAGE, tmp_path / "benchmarks.md"), shutil.copy(README, tmp_path / "README.md")
    write_pages(page, readme)
    assert page.read_text() == PAGE.read_text(), "run python -m benchmarks.pages"
    assert readme.read_text() == README.read_text(), "run python -m benchmarks.pages"


def test_what_did_not_run_is_named(tmp_path, capsys):
    page, readme = shutil.copy(PAGE, tmp_path / "benchmarks.md"), shutil.copy(README, tmp_path / "README.md")
    write_pages(page, readme, tmp_path)
    assert page.read_text().count("**not run**") >= 8
    assert "EPYC" not in page.read_text()
    assert "| beside ML-Decoder's | not run |" in readme.read_text()
