"""Classification: balanced splits, pools whose truth is the truth, captions that hold, exports that real loaders read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evals.bazaar as bazaar
from evals.bazaar.captions import CATEGORIES, attribute_caption, caption, captions, facts, line_attribute_texts
from evals.bazaar.classify import TASKS, classify_names, classify_spec, classify_split, label_of
from evals.bazaar.descriptions import description_pool, names_in, true_descriptions
from evals.bazaar.export import export_classify
from evals.bazaar.items import VIEWS, item
from evals.bazaar.lines import HELDOUT_LINES, LINES, SEEN_LINES
from evals.bazaar.render import render
from evals.bazaar.splits import split_of
from evals.bazaar.streams import Stream
from toolkit.errors import DataError, UsageError

ROOT = Path(__file__).parents[4]

LEAST = {"category": 50, "lines": 25, "lines-heldout": 40}


@pytest.mark.parametrize("task", TASKS)
def test_test_splits_are_balanced_and_labelled(task: str) -> None:
    names, rows = classify_names(task), classify_split(task)
    counts = Counter(label for _, label in rows)
    assert set(counts) == set(range(len(names)))
    assert min(counts.values()) == max(counts.values()) >= LEAST[task]
    assert len({index for index, _ in rows}) == len(rows)
    for index, label in rows[::17]:
        thing = item(index)
        assert label_of(thing, names) == label
        assert split_of(thing) == ("heldout" if task == "lines-heldout" else "test")


@pytest.mark.parametrize("task", ["category", "lines"])
def test_train_and_test_share_nothing(task: str) -> None:
    train, test = classify_split(task, "train"), classify_split(task, "test")
    assert not {i for i, _ in train} & {i for i, _ in test}
    assert all(split_of(item(i)) == "train" for i, _ in train[::11])
    held = {line.name for line in HELDOUT_LINES}
    assert not any(item(i).line in held for i, _ in train + test)


def test_another_seed_is_another_split_with_true_labels() -> None:
    names = classify_names("lines-heldout")
    rows = classify_split("lines-heldout", "test", 3)
    assert rows != classify_split("lines-heldout", "test")
    assert all(item(i, 3).line == names[label] for i, label in rows)


def test_unknown_tasks_and_splits_are_refused() -> None:
    with pytest.raises(UsageError, match="bazaar task"):
        classify_split("linez")
    with pytest.raises(UsageError, match="split"):
        classify_split("lines", "validation")
    with pytest.raises(UsageError, match="no split 'train'"):
        classify_split("lines-heldout", "train")
    with pytest.raises(UsageError):
        classify_spec("bazaar")
    with pytest.raises(UsageError, match="none of these classes"):
        label_of(item(0), ["zebra"])


@pytest.mark.parametrize("task", TASKS)
def test_pools_say_the_truth_about_their_texts(task: str) -> None:
    names, templates, descriptions = classify_spec(task)
    pools = description_pool(task)
    assert tuple(pools) == names == tuple(descriptions)
    assert all(template.count("{}") == 1 for template in templates)
    for name, pool in pools.items():
        assert len(pool.texts) == len(pool.kinds)
        counts = Counter(pool.kinds)
        assert counts["true"] >= 8
        assert counts["wrong"] == counts["nonvisual"] == 2
        assert counts["duplicate"] == counts["leak"] == 1
        true = [t for t, kind in zip(pool.texts, pool.kinds, strict=True) if kind == "true"]
        for text, kind in zip(pool.texts, pool.kinds, strict=True):
            assert text.isascii()
            leaks = names_in(text, [name])
            assert bool(leaks) == (kind == "leak"), (name, text)
            assert (kind == "duplicate") == (text not in true and text.lower().rstrip(".") in true)
        assert len(set(pool.texts)) == len(pool.texts)


@pytest.mark.parametrize("line", LINES.values(), ids=lambda line: line.name)
def test_line_texts_hold_for_the_line_and_for_no_other_as_a_whole(line: bazaar.Line) -> None:
    texts = line_attribute_texts(line)
    assert len(texts) >= 8
    assert not any(names_in(t, [*line.name.split(), line.category]) for t in texts)
    spec = CATEGORIES[line.category]
    for attribute, value in zip(spec.attributes, line.parts, strict=True):
        for other, phrases in attribute.phrases.items():
            assert other == value or not set(phrases) & set(texts)
    others = [set(line_attribute_texts(o)) for o in SEEN_LINES if o.category == line.category and o is not line]
    assert all(set(texts) - other for other in others)


@pytest.mark.parametrize("task", TASKS)
def test_true_descriptions_are_the_true_texts_wherever_they_stand(task: str) -> None:
    pools = description_pool(task)
    true = true_descriptions(task)
    assert list(true) == list(pools)
    for name, pool in pools.items():
        for text, kind in zip(pool.texts, pool.kinds, strict=True):
            assert (text in true[name]) == (kind in ("true", "duplicate")), (name, text, kind)
    if task == "lines":  # two lines that share a look share its texts
        assert any(set(true[a.name]) & set(true[b.name]) for a in SEEN_LINES for b in SEEN_LINES if a is not b)


def test_pool_distractors_are_wrong() -> None:
    for line in (*SEEN_LINES, *HELDOUT_LINES):
        pool = description_pool("lines-heldout" if line.heldout else "lines")[line.name]
        wrong = [t for t, kind in zip(pool.texts, pool.kinds, strict=True) if kind == "wrong"]
        own = {p for a, v in zip(CATEGORIES[line.category].attributes, line.parts, strict=True) for p in a.phrases[v]}
        assert not own & set(wrong)
        assert not set(line_attribute_texts(line)) & set(wrong)


def test_captions_claim_only_what_is_so() -> None:
    kinds = Counter()
    for index in range(250):
        thing = item(index)
        for view in range(VIEWS):
            for k in range(4):
                text, claims = caption(thing, Stream(index, view, k, 9), view=view)
                assert claims <= facts(thing, view), (index, text)
                assert text.isascii()
                assert "{" not in text
                kinds[text.split()[0]] += 1
        assert captions(thing, Stream(index, 5, 9)) == captions(thing, Stream(index, 5, 9))
        assert attribute_caption(thing) == attribute_caption(thing)
        assert thing.category in attribute_caption(thing)
        assert thing.line is None or not names_in(attribute_caption(thing), thing.line.split())
    assert len(kinds) > 30


def test_an_export_is_read_by_the_loader_of_real_folders(tmp_path: Path) -> None:
    from evals.tasks import get_task

    seen: list[tuple[int, int]] = []
    folder = export_classify(tmp_path / "out", "lines-heldout", limit=24, size=48, progress=lambda a, b: seen.append((a, b)))
    assert seen[-1] == (24, 24)
    task = get_task(f"folder:{folder}")
    assert task.classnames == classify_names("lines-heldout")
    samples = list(task.samples(None, 0))
    assert Counter(s.label for s in samples) == dict.fromkeys(range(24), 1)
    records = [json.loads(row) for row in (folder / "items.jsonl").read_text().splitlines()]
    assert len(records) == 24
    for record in records:
        with Image.open(folder / record["file"]) as picture:
            assert np.array_equal(np.asarray(picture), render(item(record["index"]), 48))
        assert record["line"] == task.classnames[record["label"]]
    assert set(json.loads((folder / "descriptions.json").read_text())) == set(task.classnames)
    assert json.loads((folder / "templates.json").read_text())


def test_an_export_resumes_and_refuses_to_mix(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_classify(folder, "category", limit=16, size=32, progress=stop)
    assert not (folder / "items.jsonl").exists()
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*.png")}
    assert len(times) == 5
    export_classify(folder, "category", limit=16, size=32)
    assert len(list(folder.rglob("*.png"))) == 16
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())
    export_classify(folder, "category", limit=16, size=32, progress=stop)  # complete: nothing to do
    with pytest.raises(DataError, match="another Bazaar export"):
        export_classify(folder, "category", limit=16, size=33)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        export_classify(tmp_path / "mine", "category")
    with pytest.raises(UsageError, match="empty"):
        export_classify(tmp_path / "few", "lines", limit=3)
    with pytest.raises(UsageError, match="size"):
        export_classify(tmp_path / "huge", "lines", size=9000)


def test_the_package_gives_its_names_and_loads_nothing_before() -> None:
    code = "import sys, evals.bazaar; print(sorted({'numpy', 'PIL', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    for name in bazaar.__all__:
        assert getattr(bazaar, name) is not None
    with pytest.raises(AttributeError, match="nothing_here"):
        bazaar.nothing_here  # noqa: B018
