"""Where a number came from: versions, platform and the state of the source tree, for the manifest of a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from toolkit.config import fingerprint
from toolkit.types import JSON
from toolkit.version import VERSION

PACKAGES = (
    "torch", "torchvision", "transformers", "open_clip_torch", "accelerate", "bitsandbytes", "datasets", "pyarrow", "click", "numpy",
    "pillow", "safetensors", "pydantic", "rich", "jinja2", "matplotlib", "scipy", "filelock", "pyyaml",
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


def package_versions() -> dict[str, str | None]:
    """Version of each dependency, or None where it is not installed. Reads metadata and imports nothing."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def source_state() -> dict[str, JSON] | None:
    """Commit of the source tree and whether files in it differ from that commit; None outside of a git checkout."""
    if not (ROOT / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changed is None:
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _git(*arguments: str) -> str | None:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # a read must not take the index lock from the user's own git
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10, check=True, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def environment() -> dict[str, JSON]:
    """What a manifest says of the machine: no host name, no user name, no paths."""
    return {
        "permafrost": VERSION,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": package_versions(),
        "source": source_state(),
    }


def run_name(task: str, model: str, method: str, config: object) -> str:
    """The folder name of a run: readable, and different for every configuration that gives other numbers.

    >>> run_name("bazaar/lines", "open_clip:ViT-B-32/openai", "zero-shot", {"seed": 0})
    'bazaar-lines-ViT-B-32-openai-zero-shot-3bd7b09d'
    """
    words = [_slug(word) for word in (task, model, method)]
    return "-".join([*words, fingerprint(task, model, method, config)[:8]])


def _slug(name: str) -> str:
    """Letters, digits, dots and dashes; a long path keeps its end, which tells the most."""
    scheme, _, rest = name.partition(":")
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", rest or scheme).strip("-._")
    return plain[-40:].strip("-._") or "run"
