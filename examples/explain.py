"""Say why images got their labels: `python examples/explain.py --model FOLDER --images FILES_OR_DIR --output OUT`.

For each image a figure, `NAME.png`, the map of its A, `NAME_association.png`, and the matrices A and alpha E,
`NAME.npz`; of all together `explanations.json`.
"""

from assocformer_hf.command_line import one_line_errors, parse_arguments
from assocformer_hf.inference.explain import ExplainOptions, explain

if __name__ == "__main__":
    with one_line_errors():
        explain(*parse_arguments([ExplainOptions]))
