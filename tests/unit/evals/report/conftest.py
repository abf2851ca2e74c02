"""Run folders with known content, written as the runner writes them: scores and metrics come from the harness itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.records import build_results, read_run
from evals.tasks import summarise_family

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "col"}
NAMES = ("forest", "river", "highway", "sea or lake")


def line(sample_id: str, label: int | None, output: Mapping[str, Any] | None, error: str | None = None) -> dict[str, Any]:
    scores = None if output is None or label is None else {"top1": float(output.get("label") == label)}
    if output is not None and scores is None:
        scores = {}
    return {
        "id": sample_id,
        "label": label,
        "image": f"{sample_id}.png",
        "prediction": output,
        "scores": scores,
        "error": error,
        "seconds": 0.01,
    }


def answer(label: int, confidence: float | None, classes: int) -> dict[str, Any]:
    rest = [c for c in range(classes) if c != label][:4]
    sure = confidence if confidence is not None else 0.5
    return {"label": label, "confidence": confidence, "top": [[label, sure], *([c, (1 - sure) / max(1, classes - 1)] for c in rest)]}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run(name, n=..., names=..., accuracy=..., ...) -> run folder."""

    def make(
        name: str = "run",
        *,
        n: int = 200,
        names: Sequence[str] = NAMES,
        accuracy: float = 0.7,
        seed: int = 0,
        lines: Sequence[Mapping[str, Any]] | None = None,
        results: bool | Mapping[str, Any] = True,
        **manifest: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        classes = len(names)
        if lines is None:
            rng = np.random.default_rng(seed)
            lines = []
            for i in range(n):
                label = i % classes
                hit = classes == 1 or rng.random() < accuracy
                said = label if hit else (label + 1 + int(rng.integers(classes - 1))) % classes
                lines.append(line(f"s{i:05d}", label, answer(said, float(rng.uniform(0.3, 1.0)), classes)))
        facts = {
            "schema": 1,
            "task": "eurosat",
            "family": "classify",
            "status": "finished",
            "data": "eurosat",
            "data_fingerprint": "d" * 64,
            "model": "pocket-clip",
            "model_fingerprint": "a1b2c3d4e5f6" * 5,
            "method": {"name": "zero-shot", "config": {"temperature": None}},
            "seed": 0,
            "classnames": list(names),
        } | manifest
        (folder / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
        (folder / "samples.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
        if results is True:
            run = read_run(folder)
            results = build_results(run.manifest, run.samples, summarise_family("classify", run.samples, run.manifest), 12.5)
        if results:
            (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def picture() -> Callable[[str], Image.Image]:
    """An id -> image function: noise, so that compression has no easy time."""

    def make(sample_id: str) -> Image.Image:
        rng = np.random.default_rng(sum(sample_id.encode("utf-8", "replace")))
        return Image.fromarray(rng.integers(0, 255, (160, 200, 3), dtype=np.uint8))

    return make


class Page(HTMLParser):
    """A parsed page that insists on balanced tags and collects what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {self.get_starttag_text()}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing at {self.getpos()}"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def said(self) -> str:
        """All text that a reader sees, spaces made single."""
        return " ".join("".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [attrs for name, attrs in self.tags if name == tag and all(attrs.get(key) == value for key, value in wanted.items())]


@pytest.fixture
def parse() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    return line


@pytest.fixture
def answered() -> Callable[..., dict[str, Any]]:
    return answer
