"""What was run, from the manifest: a short list for people, and the whole of it as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from evals.report.svg import clean
from evals.report.view import RunView
from evals.report.wording import duration, finite

# Said elsewhere on the page, or repeated by another field.
LEFT_OUT = {
    "schema", "task", "data", "model", "method", "status", "seconds", "classnames", "n", "n_failed", "environment", "family", "request",
    "metrics",
}  # fmt: skip
NAMES = {"created": "Started", "dtype": "Precision", "task_version": "Task version", "world": "Processes"}


def facts(view: RunView) -> list[tuple[str, str]]:
    """What was run, as pairs of a word and a value, in the order in which one asks."""
    manifest = view.manifest
    config = view.results.get("method", manifest.get("method"))
    options = config.get("config") if isinstance(config, Mapping) else None
    found: list[tuple[str, object]] = [
        ("Task", view.task),
        ("Data", view.results.get("data", manifest.get("data"))),
        ("Model", view.model),
        ("Method", view.method),
        ("Options", _short_json(options) if options else None),
        ("Samples", f"{view.n:,}" + (f", {view.n_failed:,} failed" if view.n_failed else ", none failed")),
        ("Status", view.status),
        ("Time", duration(finite(view.results.get("seconds", manifest.get("seconds"))))),
    ]
    for key, value in manifest.items():
        if key not in LEFT_OUT and value not in (None, "", [], {}) and (key, value) != ("world", 1):
            found.append((NAMES.get(key, clean(key, 40).replace("_", " ").capitalize()), _fact(key, value)))
    found.extend(_environment(manifest.get("environment")))
    return [(word, clean(value, 400)) for word, value in found if value not in (None, "")]


def _environment(value: object) -> list[tuple[str, object]]:
    """Versions and the state of the source tree, as ``evals.provenance`` writes them."""
    if not isinstance(value, Mapping):
        return []
    packages = value.get("packages")
    source = value.get("source")
    found: list[tuple[str, object]] = [("Permafrost", value.get("permafrost"))]
    if isinstance(source, Mapping) and source.get("commit"):
        found.append(("Source", str(source["commit"])[:10] + (", with uncommitted changes" if source.get("dirty") else "")))
    found.append(("Python", ", ".join(str(value[key]) for key in ("python", "platform") if value.get(key))))
    if isinstance(packages, Mapping):
        shown_packages = ("torch", "transformers", "open_clip_torch", "numpy", "pillow")
        found.append(("Packages", ", ".join(f"{name} {packages[name]}" for name in shown_packages if packages.get(name))))
    return found


def _fact(key: str, value: object) -> str:
    if isinstance(value, str):
        return value[:12] if "fingerprint" in key or "hash" in key or key.endswith("sha256") else value
    if key == "templates" and isinstance(value, Sequence) and len(value) > 3:
        return f"{value[0]} and {len(value) - 1} more"
    if isinstance(value, Mapping) and (key == "prompts" or "hash" in key or "fingerprint" in key):
        return ", ".join(f"{name} {str(one)[:12]}" for name, one in value.items())
    return _short_json(value)


def _short_json(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_short_json(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_short_json(one) if one is not None else 'default'}" for key, one in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def manifest_text(view: RunView) -> str:
    """The whole manifest as indented JSON, long class lists cut."""
    shown_manifest = dict(view.manifest)
    if len(view.classnames) > 60:
        shown_manifest["classnames"] = [*view.classnames[:60], f"... and {len(view.classnames) - 60} more"]
    lines = json.dumps(shown_manifest, indent=2, ensure_ascii=False, default=str).split("\n")
    return "\n".join(clean(line, 500) for line in lines[:600])
