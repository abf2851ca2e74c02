"""``import toolkit`` gives the public names and costs nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit

ROOT = Path(__file__).resolve().parents[3]
SURFACE = json.loads((ROOT / "tests" / "api_surface.json").read_text(encoding="utf-8"))["toolkit"]


def test_no_public_name_is_lost_or_comes_unannounced() -> None:
    assert sorted(toolkit.__all__) == SURFACE, "a public name was added or removed: say so in CHANGELOG and tests/api_surface.json"


@pytest.mark.parametrize("name", SURFACE)
def test_every_public_name_can_be_fetched_and_is_documented(name: str) -> None:
    value = getattr(toolkit, name)
    assert name in dir(toolkit)
    assert isinstance(value, str) or (value.__doc__ or "").strip()


def test_names_for_type_checkers_are_the_public_names() -> None:
    tree = ast.parse(Path(toolkit.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {alias.asname or alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imports.pop("__version__") == "toolkit.version"
    assert imports == toolkit._HOME_OF


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_encoders'"):
        _ = toolkit.load_encoders


def test_importing_loads_neither_numpy_nor_torch() -> None:
    code = "import sys, toolkit; print([m for m in ('numpy', 'PIL', 'torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
