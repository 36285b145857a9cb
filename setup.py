"""Package definition; `pip install -e .` installs what training and evaluation need."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "assocformer_hf/__init__.py").read_text(), re.MULTILINE)[1]

EXPORT = ["onnx>=1.17", "onnxscript>=0.6", "onnxruntime>=1.20"]
SPACE = ["gradio>=6", "starlette>=0.40"]  # which Gradio is built on
EXPLAIN = ["captum>=0.9"]
RAY = ["ray[data]>=2.60"]
SPARK = ["pyspark[sql]>=4.0"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.7",
    "hypothesis>=6.100",
    "scikit-learn>=1.5",
    "peft>=0.18",
    "playwright>=1.50",
    "tensorboard>=2.16",
    *EXPORT,
    *SPACE,
    *EXPLAIN,
]
DOCS = ["sphinx>=8.1", "furo>=2024.8.6", "myst-nb>=1.2", "ipykernel>=6.29", "latex2mathml>=3.77"]
DEV = [*TEST, *DOCS, "ruff>=0.9", "mypy>=1.15", "import-linter>=2.1", "torchmetrics>=1.4"]

setup(
    name="assocformer_hf",
    version=VERSION,
    description="AssocFormer: multi-label image classification with learned label associations, for transformers",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="assocformer_hf contributors",
    keywords="multi-label classification, image tagging, label correlation, transformers, timm, computer vision",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",  # the one that the tests ran on: see docs/versions.md
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    license="Apache-2.0",
    project_urls={"Paper": "https://bmvc2022.mpi-inf.mpg.de/619/"},
    python_requires=">=3.10",
    packages=find_packages(include=["assocformer_hf", "assocformer_hf.*"]),
    package_data={
        "assocformer_hf": [
            "data/scenes/*.json",
            "hub/*.md",
            "hub/space/*",
            "evaluation/multilabel/*",
            "pages/*.html",
            "pages/style.css",
            "pages/table.js",
            "training/recipes/*.yaml",
            "py.typed",
        ]
    },
    entry_points={"console_scripts": ["assocformer = assocformer_hf.commands.main:main"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "transformers>=5.17",
        "timm>=1.0.31",  # below, other scores of Swin or a crash: see OLDEST_TIMM of model/modeling_assocformer.py
        "datasets>=4.0",
        "accelerate>=1.10",
        "safetensors>=0.8",
        "huggingface_hub>=1.5",
        "evaluate>=0.4.6",
        "filelock>=3.13",
        "matplotlib>=3.9",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "scipy>=1.13",
        "numpy>=2.0",
        "pandas>=2.2.2",
        "pyarrow>=17",
        "pillow>=10.3",
        "psutil>=5.9",
        "tqdm>=4.66",
        "pyyaml>=6.0.1",
        "cyclopts>=4.25",
    ],
    extras_require={
        "test": TEST,
        "docs": DOCS,
        "dev": DEV,
        "export": EXPORT,
        "space": SPACE,
        "explain": EXPLAIN,
        "ray": RAY,
        "spark": SPARK,
    },
)
