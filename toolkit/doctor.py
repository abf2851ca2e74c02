"""Is this installation healthy? Versions, devices, cache, offline state, shipped models, a place to write."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from toolkit.errors import PermafrostError
from toolkit.files import atomic_write_bytes
from toolkit.types import JSON
from toolkit.version import VERSION

LOWEST = {"torch": (2, 11), "transformers": (5, 17)}
PACKAGES = (
    "torch", "torchvision", "transformers", "open_clip_torch", "accelerate", "bitsandbytes", "datasets", "pyarrow", "click", "numpy",
    "pillow", "safetensors", "pydantic", "rich", "jinja2", "matplotlib", "scipy", "filelock", "pyyaml", "huggingface_hub", "tokenizers",
)  # fmt: skip
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
SHIPPED = ("pocket-clip", "pocket-llava")
VERIFIED_BYTES = 2**30  # a larger cache is checked by `permafrost cache verify` only: reading all of it takes minutes


def diagnose(output: Path = Path("runs")) -> dict[str, JSON]:
    """Everything that a bug report should say, and ``problems``: one sentence for each thing that will not work."""
    problems: list[str] = []
    packages = _packages(problems)
    return {
        "permafrost": VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "devices": _devices(problems) if packages["torch"] else [],
        "cache": _cache(problems),
        "offline": {name: os.environ.get(name) in {"1", "true", "True", "yes"} for name in OFFLINE},
        "shipped_models": _shipped(problems),
        "output": {"path": str(output), "writable": _writable(output, problems)},
        "problems": problems,
    }


def _packages(problems: list[str]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
            problems.append(f"the package {name} is not installed: pip install {name}")
    for name, lowest in LOWEST.items():
        found = versions[name]
        if found is not None and _numbers(found) < lowest:
            problems.append(f"{name} {found} is older than {'.'.join(map(str, lowest))}, the oldest that is supported")
    return versions


def _numbers(version: str) -> tuple[int, int]:
    """
    >>> _numbers("2.14.1+cpu")
    (2, 14)
    """
    major, minor = version.split("+")[0].split(".")[:2]
    return int(major), int("".join(letter for letter in minor if letter.isdigit()) or 0)


def _devices(problems: list[str]) -> list[dict[str, JSON]]:
    import torch

    try:
        import torchvision.ops  # noqa: F401  # a torchvision that does not match its torch fails here
    except (ImportError, RuntimeError, AttributeError) as error:
        problems.append(f"torchvision does not fit the installed torch ({error}): install both from the same index")
    devices: list[dict[str, JSON]] = [{"device": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count()}]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        devices.append({"device": f"cuda:{index}", "name": card.name, "memory_gib": round(card.total_memory / 2**30, 1)})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps"})
    return devices


def _cache(problems: list[str]) -> Mapping[str, JSON]:
    from toolkit.cache import default_store

    try:
        store = default_store()
        facts = store.info()
        return {**facts, **(store.verify() if facts["bytes"] < VERIFIED_BYTES else {})}
    except PermafrostError as error:
        problems.append(f"the feature cache cannot be used: {error}")
        return {"error": str(error)}


def _shipped(problems: list[str]) -> dict[str, bool]:
    here = Path(__file__).resolve().parent / "models" / "pocket"
    present = {name: (here / name / "model.safetensors").is_file() for name in SHIPPED}
    problems.extend(f"the weights of {name} are not in {here / name}" for name, there in present.items() if not there)
    return present


def _writable(output: Path, problems: list[str]) -> bool:
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    probe = output / ".permafrost-probe"
    try:
        atomic_write_bytes(probe, b"")
        probe.unlink()
    except (PermafrostError, OSError) as error:
        problems.append(f"results cannot be written to {output}: {error}")
        return False
    finally:
        for folder in made:  # leave no folder behind that was not there
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return True
