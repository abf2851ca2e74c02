"""Packaging of Permafrost: the library (toolkit), its data (prompts), the harness (evals) and the command (cli)."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version, read and not imported: building needs none of the dependencies."""
    found = re.search(r'^VERSION = "([^"]+)"', (ROOT / "toolkit" / "version.py").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise RuntimeError("toolkit/version.py has no VERSION")
    return found.group(1)


CORE = [
    "torch>=2.11",
    "torchvision>=0.26",
    "transformers>=5.17",
    "open_clip_torch>=3.3",
    "accelerate>=1.10",
    "bitsandbytes>=0.49",
    "datasets>=4.4",
    "pyarrow>=20",
    "click>=8.1.7",
    "numpy>=2.0",
    "pillow>=11",
    "safetensors>=0.6",
    "pydantic>=2.10",
    "rich>=13.9",
    "jinja2>=3.1",
    "matplotlib>=3.9",
    "scipy>=1.14",
    "filelock>=3.16",
    "pyyaml>=6.0.2",
]

TEST = [
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "pytest-socket>=0.7",
    "hypothesis>=6.120",
    "scikit-learn>=1.5",
    "torchmetrics>=1.6",
]

LINT = [
    "ruff>=0.14",
    "mypy>=1.18",
    "import-linter>=2.5",
    "types-PyYAML",
    "pre-commit>=4",
]

setup(
    name="permafrost",
    version=version(),
    description="More out of frozen vision-language models, without training them.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["toolkit", "toolkit.*", "evals", "evals.*"]), "prompts"],
    py_modules=["cli"],
    package_data={
        "toolkit": ["models/pocket/**/*"],
        "prompts": ["**/*"],
        "evals": ["report/**/*", "tasks/**/*.json", "tasks/**/*.yaml", "data/**/*"],
    },
    install_requires=CORE,
    extras_require={"test": TEST, "lint": LINT, "dev": TEST + LINT, "lmms-eval": ["lmms-eval>=0.7.3"]},
    entry_points={
        "console_scripts": ["permafrost = cli:main"],
        "lmms_eval.models": ["permafrost = toolkit.integrations.lmms_eval:manifests"],
    },
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
