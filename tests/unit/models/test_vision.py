"""Decoding: in order, in any number of processes, and no single image ends the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from toolkit.errors import ImageError, UsageError
from toolkit.images import ArrayImage
from toolkit.models import vision


class Broken:
    """An image whose decoding fails in a way that nobody has thought of."""

    name = "strange.jpg"

    def content_id(self) -> str:
        return "0" * 64

    def load(self) -> Image.Image:
        raise ZeroDivisionError("division by zero")


class Deadly(Broken):
    def load(self) -> Image.Image:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_come_back_with_their_positions(workers: int, load: Any, images: list[np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    mixed = [images[0], tmp_path / "text.jpg", images[1], tmp_path / "gone.png", Broken(), images[2]]
    batches = list(load("clip").iter_images(mixed, batch_size=2, workers=workers))
    assert [index for batch in batches for index in batch.indices] == [0, 2, 5]
    failures = dict(failure for batch in batches for failure in batch.failures)
    assert list(failures) == [1, 3, 4]
    assert "text.jpg" in failures[1]
    assert "gone.png" in failures[3]
    assert failures[4] == "strange.jpg cannot be read: ZeroDivisionError: division by zero"
    assert all(len(batch.indices) == len(batch.embeddings) for batch in batches)
    assert batches[1].embeddings.shape == (1, 24)


def test_encode_images_raises_the_first_failure(load: Any, images: list[np.ndarray]) -> None:
    with pytest.raises(ImageError, match=r"strange\.jpg"):
        load("clip").encode_images([images[0], Broken()])


def test_a_batch_of_failures_only(load: Any) -> None:
    (batch,) = load("clip").iter_images([Broken(), Broken()])
    assert (batch.indices, batch.embeddings.shape, len(batch.failures)) == ([], (0, 24), 2)


def test_workers_end_with_the_stream(load: Any, images: list[np.ndarray]) -> None:
    stream = load("clip").iter_images(images, batch_size=4, workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    assert multiprocessing.active_children() == []


def test_a_killed_worker_is_said(load: Any, images: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="a process that decodes images died"):
        list(load("clip").iter_images([*images[:8], Deadly()], batch_size=1, workers=1))


@pytest.mark.slow
def test_spawned_workers_give_the_same(load: Any, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_start_method", lambda device: "spawn")
    encoder = load("clip")
    sources = [ArrayImage(image) for image in images[:6]]
    assert torch.equal(encoder.encode_images(sources, workers=1, batch_size=3), encoder.encode_images(sources, workers=0, batch_size=3))


def test_start_method_beside_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vision._start_method(torch.device("cuda")) == "spawn"
    assert vision._start_method(torch.device("cpu")) == "fork"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert vision._start_method(torch.device("cpu")) == "spawn"


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert [vision.count_workers(images, None) for images in (10, 64)] == [0, 8]
    assert vision.count_workers(10, 3) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert vision.count_workers(10_000, None) == 0
    with pytest.raises(UsageError, match="workers=-1"):
        vision.count_workers(1, -1)


def test_impossible_batches(load: Any, images: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="batch_size=0"):
        load("clip").encode_images(images, batch_size=0)
