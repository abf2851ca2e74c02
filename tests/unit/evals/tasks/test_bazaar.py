"""The Bazaar tasks as the runner sees them."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest

from evals.tasks import get_task
from toolkit.errors import DataError, UsageError


@pytest.mark.parametrize(("name", "classes"), [("category", 16), ("lines-heldout", 24)])
def test_classes_are_balanced_and_images_open(name: str, classes: int) -> None:
    task = get_task(f"bazaar/{name}")
    counts = Counter(sample.label for sample in task.samples())
    assert len(task.classnames) == len(set(task.classnames)) == classes == len(counts)
    assert len(set(counts.values())) == 1
    sample = next(task.samples())
    assert sample.image is not None
    assert sample.image.load().size == (96, 96)
    assert pickle.loads(pickle.dumps(sample)) == sample
    assert task.descriptions is not None
    assert set(task.descriptions) == set(task.classnames)


def test_described_lines_are_the_same_photos_without_names() -> None:
    named, described = get_task("bazaar/lines-heldout"), get_task("bazaar/lines-heldout-described")
    assert [(s.id, s.label) for s in named.samples()] == [(s.id, s.label) for s in described.samples()]
    tokens = {token for name in named.classnames for token in name.lower().split()}
    for text in described.classnames:
        assert not tokens & set(text.lower().replace(",", "").split())
    assert len(set(described.classnames)) == 24
    assert set(described.descriptions or {}) == set(described.classnames)


def test_options() -> None:
    small = get_task("bazaar/category", size=64, view=1)
    assert next(small.samples()).image.load().size == (64, 64)  # type: ignore[union-attr]
    assert small.data_fingerprint() != get_task("bazaar/category", size=64).data_fingerprint()
    train = get_task("bazaar/category:train")
    assert not {s.id for s in train.samples()} & {s.id for s in get_task("bazaar/category").samples()}
    assert train.name == "bazaar/category:train"
    assert get_task("bazaar/category", classnames={"mug": "coffee mug"}).classnames.count("coffee mug") == 1


def test_wrong_options() -> None:
    with pytest.raises(UsageError, match="size must be"):
        get_task("bazaar/category", size=7)
    with pytest.raises(UsageError, match="view and seed"):
        get_task("bazaar/category", view="x")
    with pytest.raises(UsageError, match="split"):
        get_task("bazaar/category:dev")
    with pytest.raises(UsageError, match="takes no data"):
        get_task("bazaar/category", data="/tmp")
    with pytest.raises(DataError, match="have 16 classes and the prompts 2"):
        get_task("bazaar/category", classnames=["a", "b"])
