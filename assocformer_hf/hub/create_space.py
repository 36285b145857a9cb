"""A Space that shows a model: a folder ready to push."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

from jinja2 import Template

from assocformer_hf.evaluation.association_worth import worth_sentence
from assocformer_hf.hub.model_folder import HANDLER, REQUIREMENTS
from assocformer_hf.interpretation.why import why_in_words
from assocformer_hf.output_folder import OutputFolder

SOURCES = Path(__file__).with_name("space")
# Files of the package that the app has too, by a function in each.
WORDS: dict[str, Callable] = {"why.py": why_in_words, "worth.py": worth_sentence}
GRADIO_VERSION = "6.31.0"  # the one that the tests run


def create_space(folder: str | Path, model_id: str, title: str | None = None) -> None:
    """Writes the Gradio app of a model: `app.py` and what it needs, `requirements.txt` and `README.md`.

    The example pictures are the model's own samples.

    Args:
        folder: the folder; made where it is missing.
        model_id: the model on the Hub, or a folder for a Space on your own machine.
        title: of the Space; default: the model's name.

    Raises:
        OutputError: if files of others would be replaced.
    """
    with OutputFolder(folder).replacing("space") as aside:
        _write(aside, model_id, title)


def _write(folder: Path, model_id: str, title: str | None):
    on_hub = not Path(model_id).is_dir()
    if not on_hub:  # else, started from elsewhere, the app would look for a model of that name on the Hub
        model_id = str(Path(model_id).resolve())
    for source in (*(SOURCES / name for name in ("panels.py", "page.html", "page.js", "style.css")), HANDLER):
        shutil.copyfile(source, folder / source.name)
    for name, function in WORDS.items():
        shutil.copyfile(inspect.getfile(function), folder / name)
    app = (SOURCES / "app.py").read_text(encoding="utf-8")
    (folder / "app.py").write_text(app.replace('"org/name"', repr(model_id)), encoding="utf-8")
    (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
    readme = Template((SOURCES / "README.md").read_text(encoding="utf-8"), keep_trailing_newline=True)
    header = {
        "title": title or Path(model_id).name,
        "model_id": model_id,
        "on_hub": on_hub,
        "gradio_version": GRADIO_VERSION,
    }
    (folder / "README.md").write_text(readme.render(header), encoding="utf-8")
