"""Ten tasks of a user: here, in transformers alone, in fastai and in LightlyTrain, each in an environment of its own.

    python -m benchmarks.tasks.run --photographs FOLDER --environment here=VENV transformers=VENV fastai=VENV …

`FOLDER` has photographs and `metadata.csv` (`file_name,labels`). What a user writes lies in `benchmarks/tasks/TOOL`,
a command (`.sh`) or a script (`.py`), and is run as it lies there; its lines are counted without blank ones and
comments. So each script is whole, as a user's is, and repeats what others of its tool have. All start from the same
photographs and the same pretrained backbone, which `HF_HOME` holds.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.tables import NOT_RUN, fill_page, header, row

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results/tasks.json"
PAGE = HERE.parents[1] / "docs/tasks.md"
TASKS = {
    "train": "train on a folder of photographs and a table of their labels",
    "evaluate": "mAP, CF1 and OF1 on photographs that were held out",
    "thresholds": "a threshold for each label",
    "tag": "tag new photographs, into a table",
    "explain": "why this label? A picture",
    "check": "what is wrong with the photographs and labels",
    "resume": "go on with a training that was killed",
    "unknown": "train where some labels are unknown",
    "export": "ONNX for batches of any size, compared with torch",
    "publish": "a folder for the Hub with a model card",
}
TOOLS = {"here": "assocformer_hf", "transformers": "transformers", "fastai": "fastai", "lightly_train": "lightly_train"}
TITLES = {"here": "here", "transformers": "transformers alone", "fastai": "fastai", "lightly_train": "LightlyTrain"}
# A file that is there once a whole epoch is saved: then the run is killed, and started again.
SAVED = {
    "here": "outputs/resumed/checkpoints/epoch-0001/run.json",
    "transformers": "outputs/transformers_resumed/checkpoint-*/trainer_state.json",
    "fastai": "photos/models/resumed_0.pth",
    "lightly_train": "outputs/lightly_resumed/checkpoints/last.ckpt",
}
# What an error means, where its own words do not say it.
MEANING = {("lightly_train", "unknown"): "its format has no unknown labels"}
LIMIT = 900  # seconds for one task


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument(
        "--environment", nargs="*", default=[], metavar="TOOL=FOLDER", help="folders of `python -m venv`"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder to work in; made anew for each tool")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for tool, environment in (pair.split("=") for pair in arguments.environment):
        binaries = Path(environment).resolve() / "bin"
        folder = prepare(arguments.photographs, arguments.work / tool)
        entry = results.setdefault(tool, {"tasks": {}})
        entry["version"] = version_of(binaries, tool)
        for task in arguments.tasks:
            entry["tasks"][task] = run_task(tool, task, binaries, folder)
            print(tool, task, entry["tasks"][task], flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    write_page()


def write_page():
    """Fills the tables of the page from the results."""
    results = json.loads(RESULTS.read_text())
    fill_page(PAGE, {"tasks": task_table(results), "notes": notes(results)})


def prepare(photographs: Path, folder: Path) -> Path:
    """The folder that a user starts in: `photos` with a table, `partial` with labels that are unknown, and `new`."""
    if folder.exists():
        return folder
    for name in ("photos", "partial", "new"):
        (folder / name).mkdir(parents=True)
    with open(photographs / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for i, one in enumerate(rows):
        for name in ("photos", "partial") + ("new",) * (i < 10):
            shutil.copyfile(photographs / one["file_name"], folder / name / one["file_name"])
    shutil.copyfile(photographs / "metadata.csv", folder / "photos/metadata.csv")
    names = sorted({label for one in rows for label in one["labels"].split("|") if label})
    with open(folder / "partial/metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *names])
        for i, one in enumerate(rows):
            present = one["labels"].split("|")
            # Written as 0 is absent, 1 present, and every fifth is unknown.
            cells = ["" if (i + k) % 5 == 0 else int(name in present) for k, name in enumerate(names)]
            writer.writerow([one["file_name"], *cells])
    return folder


def run_task(tool: str, task: str, binaries: Path, folder: Path) -> dict:
    """Runs what a user writes for a task; its lines, its time, and what it printed last, or why there is nothing."""
    if (reason := HERE / tool / f"{task}.txt").exists():
        return {"reason": reason.read_text().strip()}
    (file,) = (HERE / tool).glob(f"{task}.[ps][yh]")
    text = file.read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found = {"lines": len(lines)}
    if note := [line.removeprefix("# note: ") for line in text.splitlines() if line.startswith("# note: ")]:
        found["note"] = note[0]
    if file.suffix == ".sh":
        found["command"] = lines[0]
    command = ["bash", "-e", file] if file.suffix == ".sh" else [binaries / "python", file]
    start = time.perf_counter()
    if task == "resume":
        found["killed"] = kill_once_saved(command, binaries, folder, SAVED[tool])
    done = subprocess.run(
        command, cwd=folder, env=environment(binaries), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    found |= {"exit_code": done.returncode, "seconds": round(time.perf_counter() - start, 1)}
    printed = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    for place in (folder.resolve(), binaries.parent):
        printed = [line.replace(f"{place}/", "") for line in printed]  # results name no folder of the machine
    return found | {"last_lines": [line.strip()[:300] for line in printed[-3:]]}


def kill_once_saved(command: list, binaries: Path, folder: Path, saved: str) -> bool:
    """Starts a training and kills it as soon as a whole epoch is saved; whether it was killed."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment(binaries), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + LIMIT
    while process.poll() is None and not any(folder.glob(saved)) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(5)  # in which whoever does not write aside can finish the file
    killed = process.poll() is None
    if killed:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return killed


def environment(binaries: Path) -> dict[str, str]:
    """This process's, with the tool's programs first, without other paths to code, and without a word to outside."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    quiet = {"HF_HUB_OFFLINE": "1", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "MPLBACKEND": "agg"}
    return own | quiet | {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}


def version_of(binaries: Path, tool: str) -> str:
    """The version of a tool that is installed in an environment."""
    script = f"from importlib.metadata import version; print(version({TOOLS[tool]!r}))"
    return subprocess.run(
        [binaries / "python", "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()


def task_table(results: dict) -> list[str]:
    """A row for each task: the command here, and the lines of code of the others."""
    rows = header("task", *(f"{TITLES[tool]} {results.get(tool, {}).get('version', '')}" for tool in TOOLS))
    for task, what in TASKS.items():
        found = {tool: results.get(tool, {}).get("tasks", {}).get(task) for tool in TOOLS}
        rows.append(row(what, *(cell(one, MEANING.get((tool, task))) for tool, one in found.items())))
    return rows


def cell(found: dict | None, meaning: str | None = None) -> str:
    """What a task took; of one that ended in an error also what that means."""
    if found is None:
        return NOT_RUN
    if "reason" in found:
        return found["reason"]
    if found["exit_code"]:
        error = f"ended in `{found['last_lines'][-1]}`"
        return f"{meaning}: {error}" if meaning else error
    lines = f"{found['lines']} line{'s' if found['lines'] != 1 else ''}"
    return f"`{found['command']}`" if "command" in found else lines


def notes(results: dict) -> list[str]:
    """What else is to say of what was run."""
    return [
        f"- {TITLES[tool]}, {TASKS[task]}: {found['note']}."
        for tool in TOOLS
        for task, found in results.get(tool, {}).get("tasks", {}).items()
        if "note" in found
    ]


if __name__ == "__main__":
    main()
