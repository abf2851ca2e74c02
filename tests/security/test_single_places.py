"""What may be done in one place only, and what may be done nowhere. Read from the syntax trees of all that we ship."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ("cli.py", "setup.py", "toolkit/**/*.py", "evals/**/*.py")
EVERYTHING = (*PACKAGE, "recipes/**/*.py", "benchmarks/**/*.py", "examples/**/*.py")


def trees(patterns: tuple[str, ...]) -> Iterator[tuple[str, ast.Module]]:
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def places(found: Callable[[ast.AST], bool], patterns: tuple[str, ...] = EVERYTHING) -> dict[str, list[int]]:
    """File -> lines where ``found`` says yes."""
    result: dict[str, list[int]] = {}
    for name, tree in trees(patterns):
        lines = [getattr(node, "lineno", 0) for node in ast.walk(tree) if found(node)]
        if lines:
            result[name] = lines
    return result


def calls(pattern: str) -> Callable[[ast.AST], bool]:
    """Calls of a function whose dotted name, as it is written, matches."""
    compiled = re.compile(pattern)
    return lambda node: isinstance(node, ast.Call) and compiled.fullmatch(ast.unparse(node.func)) is not None


def imports(*packages: str) -> Callable[[ast.AST], bool]:
    def found(node: ast.AST) -> bool:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        return any(name.partition(".")[0] in packages for name in names)

    return found


ONE_PLACE = {
    "torch.load": (calls(r"torch\.load|load"), {"toolkit/models/weights.py"}),
    "opening images": (calls(r"(PIL\.)?Image\.open|.*ImageFile\(.*|ImageFile\.Parser"), {"toolkit/images.py"}),
    "registering hooks": (calls(r".*\.register_(\w+_)?hook|.*\.register_module_\w+"), {"toolkit/hooks.py"}),
    "module paths": (calls(r".*\.get_submodule"), {"toolkit/sites.py"}),
}
NOWHERE = {
    "code from text": calls(r"eval|exec|compile"),
    "unpickling": calls(r"(pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve)\.(load|loads|open|Unpickler)"),
    "unsafe YAML": calls(r"yaml\.(load|full_load|unsafe_load|load_all)"),
    "a shell": calls(r"os\.(system|popen)|subprocess\.getoutput"),
    "unpacking archives in place": calls(r".*\.extractall|shutil\.unpack_archive"),
    "names for temporary files that others can take": calls(r"tempfile\.mktemp"),
    "pickling packages": imports("dill", "cloudpickle", "joblib", "marshal", "shelve", "diskcache"),
    "plain network access": imports("requests", "urllib3", "httpx", "aiohttp", "ftplib", "telnetlib", "socketserver"),
}


@pytest.mark.parametrize("what", ONE_PLACE)
def test_done_in_one_place_only(what: str) -> None:
    found, allowed = ONE_PLACE[what]
    assert set(places(found)) == allowed


@pytest.mark.parametrize("what", NOWHERE)
def test_done_nowhere(what: str) -> None:
    assert places(NOWHERE[what]) == {}


def test_the_rules_would_see_an_offender() -> None:
    offender = ast.parse("import dill\nfrom requests import get\nmodel.layer.register_forward_hook(f)\npickle.load(f)\nImage.open('x')\n")
    rules = [NOWHERE["pickling packages"], NOWHERE["plain network access"], ONE_PLACE["registering hooks"][0], NOWHERE["unpickling"]]
    rules.append(ONE_PLACE["opening images"][0])
    assert all(any(rule(node) for node in ast.walk(offender)) for rule in rules)


def keyword_is(name: str, value: object) -> Callable[[ast.AST], bool]:
    def found(node: ast.AST) -> bool:
        keywords = node.keywords if isinstance(node, ast.Call) else []
        return any(word.arg == name and isinstance(word.value, ast.Constant) and word.value.value == value for word in keywords)

    return found


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("trust_remote_code", True),
        ("weights_only", False),
        ("allow_pickle", True),
        ("shell", True),
        ("autoescape", False),
        ("verify", False),
    ],
)
def test_no_safety_is_switched_off(keyword: str, value: object) -> None:
    assert places(keyword_is(keyword, value)) == {}


def test_torch_load_takes_weights_only() -> None:
    is_load, is_safe = calls(r"torch\.load"), keyword_is("weights_only", True)
    assert places(lambda node: is_load(node) and not is_safe(node)) == {}
    assert places(is_load) != {}


def test_pickle_is_imported_only_for_the_name_of_its_error() -> None:
    assert set(places(imports("pickle", "cPickle"))) <= {"toolkit/models/weights.py"}


def test_html_is_escaped() -> None:
    is_environment, is_safe = calls(r"(jinja2\.)?Environment"), keyword_is("autoescape", True)
    assert places(lambda node: is_environment(node) and not is_safe(node)) == {}
    marked_safe = [
        path
        for path in ROOT.glob("evals/**/*.j2")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "| safe" in line or "|safe" in line
    ]
    assert marked_safe == []


DEEP_PATH = re.compile(
    r"(encoder\.layers?|transformer\.resblocks|trunk\.blocks|(vision_tower|language_model|text_model|vision_model)\.\w+|self_attn\.\w+)"
)


def test_no_other_file_knows_the_paths_of_blocks() -> None:
    def found(node: ast.AST) -> bool:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            return DEEP_PATH.search(node.value) is not None
        return (
            isinstance(node, ast.Attribute)
            and re.search(r"\.(encoder\.layers?|resblocks|self_attn|blocks)$", ast.unparse(node)) is not None
        )

    assert set(places(found, PACKAGE)) == {"toolkit/sites.py"}


def test_files_are_written_through_one_door() -> None:
    """Results reach the disk by toolkit.files alone: whole or not at all."""
    writing = calls(r".*\.(write_text|write_bytes|to_csv|to_parquet)|json\.dump|yaml\.dump|yaml\.safe_dump|np\.savez?")

    def opened_for_writing(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or not re.fullmatch(r"open|.*\.open", ast.unparse(node.func)):
            return False
        modes = [word.value for word in node.keywords if word.arg == "mode"] + node.args[:2]
        return any(isinstance(mode, ast.Constant) and re.fullmatch(r"[rbt+]*[wax][rbt+]*", str(mode.value)) for mode in modes)

    assert set(places(lambda node: writing(node) or opened_for_writing(node), PACKAGE)) == {"toolkit/files.py"}
