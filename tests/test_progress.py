"""How far a loop is, as a person at a terminal and as a log see it."""

import io
from contextlib import redirect_stderr

import pytest

from assocformer_hf import progress
from assocformer_hf.progress import progress_bar


class Screen(io.StringIO):
    """Standard error, of a terminal or of a log."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def a_line_for_every_step(monkeypatch):
    """In a log, instead of one in half a minute."""
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_log_has_whole_lines_and_nothing_that_moves_a_cursor():
    with redirect_stderr(Screen(terminal=False)) as screen:
        assert list(progress_bar(range(3), desc="predict", unit="batches")) == [0, 1, 2]
    assert "\r" not in screen.getvalue()
    assert screen.getvalue().endswith("\n")
    assert screen.getvalue().splitlines()[-1].startswith("predict: 3 of 3 batches, ")


def test_a_terminal_has_a_bar_that_goes_at_the_end():
    with (
        redirect_stderr(Screen(terminal=True)) as screen,
        progress_bar(total=40, desc="epoch 1/2", unit="images") as bar,
    ):
        bar.update(40)
        bar.refresh()
    assert "epoch 1/2: 100%|" in screen.getvalue()
    assert screen.getvalue().rpartition("\r")[0].endswith(" ")  # wiped out
    assert "\n" not in screen.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_other_processes_than_the_first_show_nothing(terminal):
    with redirect_stderr(Screen(terminal)) as screen:
        list(progress_bar(range(3), shown=False))
    assert screen.getvalue() == ""


def test_a_short_loop_leaves_no_line_in_a_log(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 30.0)
    with redirect_stderr(Screen(terminal=False)) as screen:
        list(progress_bar(range(1000)))
    assert screen.getvalue() == ""
