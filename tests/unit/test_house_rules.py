"""The rules of the house that no linter knows: what may be imported where, how long a file may be, what may be in it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ["cli.py", "setup.py", *(f"{room}/**/*.py" for room in ("toolkit", "evals", "recipes", "benchmarks", "examples"))]
MOST_LINES = 400
LONGER = {"cli.py": 760}  # one file holds every command: they only parse, call and print
MOST_LINES_A_FUNCTION = 60
MOST_LINES_A_COMMAND = 30


def sources() -> list[Path]:
    return sorted(path for pattern in OURS for path in ROOT.glob(pattern))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_at_top(tree: ast.Module) -> Iterator[str]:
    """Top packages that importing the module imports; what stands under ``if TYPE_CHECKING`` does not run."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, (ast.If, ast.Try)) and "TYPE_CHECKING" not in ast.dump(node):
            yield from imported_at_top(ast.Module(body=node.body, type_ignores=[]))


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(name, lines without the docstring) of every function."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if text else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


def test_the_command_line_imports_only_click_and_the_standard_library_at_its_top() -> None:
    imported = set(imported_at_top(tree_of(ROOT / "cli.py")))
    assert imported - set(sys.stdlib_module_names) == {"click"}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < LONGER.get(name_of(path), MOST_LINES)
    assert {name: lines for name, lines in functions(tree_of(path)) if lines >= MOST_LINES_A_FUNCTION} == {}


def test_commands_only_parse_call_and_print() -> None:
    assert {name: lines for name, lines in functions(tree_of(ROOT / "cli.py")) if lines >= MOST_LINES_A_COMMAND} == {}


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_nothing_unfinished_and_no_swallowed_exception(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [word for word in ("TODO", "FIXME", "XXX", "NotImplementedError") if word in text] == []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}):
            assert not all(isinstance(step, ast.Pass) for step in node.body), f"line {node.lineno} swallows every exception"


def test_prompts_hold_data_and_no_code() -> None:
    assert [name_of(path) for path in (ROOT / "prompts").rglob("*.py")] == []


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = ("torch", "transformers", "open_clip", "torchvision", "datasets", "matplotlib", "accelerate")


def test_importing_the_whole_harness_imports_no_model_library() -> None:
    code = f"""
import importlib, pkgutil, sys
import evals, toolkit
for module in pkgutil.walk_packages(evals.__path__, "evals."):
    importlib.import_module(module.name)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert run_python(code) == "[]"


def test_importing_the_library_and_its_method_table_imports_no_torch() -> None:
    code = "import sys, toolkit, toolkit.types, toolkit.errors, toolkit.config, toolkit.methods; print('torch' in sys.modules)"
    assert run_python(code) == "False"


def test_import_changes_nothing_in_the_process() -> None:
    code = """
import os, random, sys, warnings
import click, filelock, numpy, pydantic, scipy.stats, PIL.Image  # what other packages do on import is not ours
before = (dict(os.environ), random.getstate(), sys.excepthook, list(warnings.filters))
import cli, evals.runner, evals.tasks, toolkit.images, toolkit.cache
print((dict(os.environ), random.getstate(), sys.excepthook, list(warnings.filters)) == before)
"""
    assert run_python(code) == "True"


def test_import_contracts_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    if not linter.exists():
        pytest.skip("import-linter is not installed: pip install permafrost[lint]")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
