"""What there is: tasks, prompt files and finished runs, as rows for ``permafrost ls``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from toolkit.errors import DataError
from toolkit.files import read_json

Row = dict[str, Any]
PROMPTS = Path(__file__).resolve().parent.parent / "prompts"


ASKS = {"classify": "classes", "answer": "questions", "vqa": "questions"}


def catalogue(what: str, runs: Path, implementations: Callable[[], Iterable[tuple[str, str, str | None]]]) -> list[Row]:
    """The rows of "models", "methods", "tasks", "prompts" or "runs" (those below the folder ``runs``).

    Args:
        implementations: gives (name, family, where it is) of models or methods, which the harness does not know.
    """
    if what in ("models", "methods"):
        rows = [{"name": name, "for": ASKS[family], "where": where} for name, family, where in implementations()]
        return [{key: value for key, value in row.items() if value is not None} for row in rows]
    return list_runs(runs) if what == "runs" else {"tasks": list_tasks, "prompts": list_prompts}[what]()


def list_tasks() -> list[Row]:
    """One row a task, and whether it asks for classes or asks questions; names that end in a colon take a place: ``folder:DIR``."""
    from evals.tasks import BAZAAR_VQA, VQA
    from evals.tasks import list_tasks as names

    asking = {BAZAAR_VQA, *(f"{kind}:" for kind in VQA)}
    return [{"name": name, "for": ASKS["vqa" if name in asking else "classify"]} for name in names()]


def list_prompts() -> list[Row]:
    """One row a prompt file, named as in the tree without its ending."""
    files = sorted(path for path in PROMPTS.rglob("*") if path.suffix in {".yaml", ".yml", ".json"})
    return [{"name": str(path.relative_to(PROMPTS).with_suffix("")), "file": path.name, "bytes": path.stat().st_size} for path in files]


def list_runs(folder: Path) -> list[Row]:
    """One row for each run folder below ``folder``, the latest last; a damaged one says so in its status."""
    found = sorted(folder.glob("**/manifest.json"), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
    return list(_rows(found))


def _rows(manifests: list[Path]) -> Iterator[Row]:
    for path in manifests:
        try:
            manifest = read_json(path)
            results = read_json(path.parent / "results.json") if (path.parent / "results.json").exists() else {}
            if "task" not in manifest:  # another command's folder
                continue
            metrics = results.get("metrics", {})
            primary = manifest.get("primary") or next(iter(metrics), None)
            value = metrics.get(primary, {}).get("value")
            yield {
                "name": str(path.parent),
                "task": manifest["task"],
                "model": manifest.get("model"),
                "method": (manifest.get("method") or {}).get("name"),
                "status": manifest.get("status"),
                "n": results.get("n"),
                "metric": primary,
                "value": None if value is None else round(value, 4),
            }
        except DataError as error:
            yield {"name": str(path.parent), "status": f"damaged: {error}"}
