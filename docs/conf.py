"""Settings of the documentation: `sphinx-build -W --keep-going docs docs/_build/html`.

No page loads anything from elsewhere.
"""

import os
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from assocformer_hf.commands.main import VERBS, create_app  # noqa: E402

# The notebooks run in processes of their own, offline, with one thread each.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "TQDM_DISABLE": "1"}

project = "assocformer_hf"
author = "the contributors of assocformer_hf"
version = release = re.search(r'__version__ = "(.+)"', (ROOT / "assocformer_hf/__init__.py").read_text())[1]
html_title = f"assocformer_hf {version}"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_templates", "jupyter_execute"]
templates_path = ["_templates"]
html_theme = "furo"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"

default_role = "code"  # docstrings are written in Markdown's manner: `name`, and [`Name`] for a link
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
napoleon_use_ivar = True
napoleon_use_rtype = False


def link_names(app, what, name, obj, options, lines: list[str]):
    """Makes links of the names in a docstring that stand in brackets, [`Name`]."""
    lines[:] = [re.sub(r"\[`([\w.]+)`\]", r":py:obj:`~.\1`", line) for line in lines]


def math_as_markup(inline: bool):
    """Writes an equation as MathML, which browsers show by themselves."""

    def visit(self, node):
        self.body.append(convert(node.astext(), display="inline" if inline else "block"))
        raise nodes.SkipNode

    return visit


def add_options(app, page: str, source: list[str]):
    """Writes the verbs of the command and their options on their page, from the command itself."""
    if page == "command":
        written = create_app(whole=VERBS).generate_docs()
        source[0] += written[written.index("## assocformer ") :]


def setup(app):
    """Sphinx's way in: names in docstrings become links, equations MathML, and the command says its options."""
    app.connect("source-read", add_options)
    app.connect("autodoc-process-docstring", link_names)
    app.add_html_math_renderer("mathml", (math_as_markup(True), None), (math_as_markup(False), None))
