"""The lowest and the newest versions of every dependency, in environments of their own, and the tests that ran there.

    python -m benchmarks.versions --environments FOLDER [--resolutions lowest-direct highest] [--tests PATH …]

Needs `uv` in the path. An environment that is there already is used as it is.
"""

import argparse
import json
import os
import re
import subprocess
from pathlib import Path

from benchmarks.tables import NOT_RUN, fill_page, header, row

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/versions.json"
PAGE = ROOT / "docs/versions.md"
RESOLUTIONS = {"lowest-direct": "lowest", "highest": "newest"}
TESTS = [
    "tests/commands/test_main.py", "tests/model",
    "tests/evaluation/test_metrics.py", "tests/data/readers/test_memory.py", "tests/data/readers/test_tables.py",
    "tests/data/test_load.py", "tests/inference/test_onnx.py", "tests/inference/test_tagger.py",
    "tests/hub/test_model_cards.py", "tests/test_quiet.py", "tests/test_wheel.py",
]  # fmt: skip
SCRIPT = """
import json, sys
from importlib.metadata import requires, version
from packaging.requirements import Requirement

found = {}
for one in map(Requirement, requires("assocformer_hf")):
    if one.marker is None or one.marker.evaluate({"extra": "test"}):
        found[one.name] = {"floor": str(one.specifier), "version": version(one.name)}
print(json.dumps({"python": sys.version.split()[0], "packages": found}))
"""  # what it was installed with: run in the environment


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", type=Path, required=True)
    parser.add_argument("--resolutions", nargs="*", default=list(RESOLUTIONS), choices=list(RESOLUTIONS))
    parser.add_argument("--tests", nargs="*", default=TESTS)
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for resolution in arguments.resolutions:
        python = install(arguments.environments / RESOLUTIONS[resolution], resolution)
        results[resolution] = installed(python) | run_tests(python, arguments.tests)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()


def write_page():
    """Fills the tables of the page from the results."""
    results = json.loads(RESULTS.read_text())
    fill_page(PAGE, {"versions": version_table(results), "runs": run_table(results)})


def install(folder: Path, resolution: str) -> Path:
    """The Python of an environment with the package and what its tests need."""
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", folder], check=True)
        command = ["uv", "pip", "install", "--quiet", "--python", python, "--resolution", resolution, f"{ROOT}[test]"]
        subprocess.run(command, check=True)
    return python


def installed(python: Path) -> dict:
    """The versions of Python and of the dependencies in an environment, and the lowest that the package asks for."""
    done = subprocess.run([python, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run_tests(python: Path, tests: list[str]) -> dict:
    """Runs tests of this tree in an environment; how many of them passed, and the names of those that did not."""
    command = [python, "-m", "pytest", "-o", "addopts=", "-m", "not slow", "-q", "-rfE", *tests]
    own = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    print(last, *failed, sep="\n", flush=True)
    return {"tests": tests, "counts": counts, "failed": failed}


def version_table(results: dict) -> list[str]:
    """A row for each dependency: what is asked for, and what ran."""
    packages = {resolution: found["packages"] for resolution, found in results.items()}
    names = list(dict.fromkeys(name for found in packages.values() for name in found))
    rows = header("package", "asked for", *RESOLUTIONS.values())
    for name in names:
        ran = [packages.get(resolution, {}).get(name, {}) for resolution in RESOLUTIONS]
        asked = next(one["floor"] for one in ran if one)
        rows.append(row(name, asked, *(one.get("version", NOT_RUN) for one in ran)))
    pythons = [results.get(resolution, {}).get("python", NOT_RUN) for resolution in RESOLUTIONS]
    return [*rows, row("Python", ">=3.10", *pythons)]


def run_table(results: dict) -> list[str]:
    """A row for each environment: the tests that ran."""
    rows = header("versions", "passed", "failed", "skipped", "which failed")
    for resolution, name in RESOLUTIONS.items():
        if resolution not in results:
            rows.append(row(name, *[NOT_RUN] * 4))
            continue
        found = results[resolution]
        counts = [str(found["counts"].get(what, 0)) for what in ("passed", "failed", "skipped")]
        rows.append(row(name, *counts, ", ".join(f"`{test}`" for test in found["failed"]) or "none"))
    return rows


if __name__ == "__main__":
    main()
