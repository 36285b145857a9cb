"""Where an evaluation is reported; imports nothing heavy, so that the command shows its help at once."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class ReportOptions:
    """Where the results of an evaluation go, besides the screen."""

    output: Path | None = field(default=None, metadata={"help": "JSON file for the metrics."})
    report: Path | None = field(default=None, metadata={"help": "Folder for report.html and its CSV files."})
    compare: str | None = field(
        default=None, metadata={"help": "Another model, folder or Hub id, set beside this one in the report."}
    )
