"""Finished runs as the rows of a file, which is whole at any time."""

import json
from pathlib import Path

from benchmarks.measure import environment


class Rows(list):
    """The rows of a file of results, those that are there and those that are added.

    Args:
        path: the file; it need not exist.
        command: what makes them.
    """

    def __init__(self, path: Path, command: str = ""):
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
        shared = {"environment": content["environment"]} if "environment" in content else {}
        super().__init__(shared | row for row in content["rows"])
        self.path, self.command = path, command

    def add(self, row: dict):
        """Writes a finished run down, with what it ran on."""
        self.append(row | {"environment": environment()})
        content = {"command": self.command, "rows": list(self)}
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.path)
