"""A finished run that the tests of the scripts share."""

import pytest

from tests.commands.commands import run, training


@pytest.fixture(scope="session")
def trained(small_coco, tmp_path_factory):
    """The folder of a finished run, and what the run printed."""
    output = tmp_path_factory.mktemp("run") / "model"
    return output, run(training(small_coco, output, "--report_to", "auto")).stdout
