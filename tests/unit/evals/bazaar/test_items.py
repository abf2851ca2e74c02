"""Items: the same everywhere, in any order; product lines that can be told apart; damage that its material can take."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.bazaar.captions import captions
from evals.bazaar.items import VIEWS, item, kind_of
from evals.bazaar.lines import HELDOUT_LINES, LINES, LINES_OF, SEEN_LINES
from evals.bazaar.record import truth
from evals.bazaar.splits import is_heldout, split_of, split_of_index
from evals.bazaar.streams import Stream
from evals.bazaar.world import BACKGROUNDS, CATEGORIES, COLOURS, DAMAGE_OF, PATTERNS

ROOT = Path(__file__).parents[4]
GOLDEN = {  # sha256 of the items as JSON
    (0, 0): "9fd1fa373a92d369285d1b440cf4573cd45c87226908c66398aaf0e8bd504ff3",
    (12345, 7): "390c48f221ddd06857b613d00182edbb800bf26d0af9914e55fe87e1778448ae",
    (4_000_000_000, 3): "c4c724f860671403225cd70b4c1cfea397aa32fa184309ef5b03f6e4d71fcba8",
}
MANY = range(3000)

PRINT = """
import hashlib, json
from evals.bazaar.items import item
from toolkit.config import to_json
for index, seed in {keys}:
    print(hashlib.sha256(json.dumps(to_json(item(index, seed)), sort_keys=True).encode()).hexdigest())
"""


def test_an_item_is_the_same_in_every_process_and_on_every_machine() -> None:
    code = PRINT.format(keys=list(GOLDEN))
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60, env={"PYTHONHASHSEED": s}
        )
        for s in ("1", "77")
    ]
    found = [done.stdout.split() for done in outputs]
    assert found[0] == found[1]
    assert found[0] == list(GOLDEN.values())


def test_random_access_is_sequential_access() -> None:
    forwards = [item.__wrapped__(k, 5) for k in range(40)]
    backwards = [item.__wrapped__(k, 5) for k in reversed(range(40))]
    assert forwards == backwards[::-1]
    assert [kind_of(k, 5) for k in range(40)] == [(i.category, i.line) for i in forwards]
    assert item(3, 5) != item(3, 6)
    assert len({hashlib.sha256(repr(i).encode()).digest() for i in forwards}) == 40


@pytest.mark.parametrize(("index", "seed"), [(-1, 0), (0, -1)])
def test_negative_keys_are_refused(index: int, seed: int) -> None:
    with pytest.raises(ValueError, match="index and seed"):
        item(index, seed)


def test_the_world_is_as_large_as_promised() -> None:
    assert len(CATEGORIES) == 16
    assert len(COLOURS) >= 10
    assert len(LINES) == len({line.name.lower() for line in LINES.values()}) == 64
    assert set(Counter(len(lines) for lines in LINES_OF.values()).items()) == {(3, 12), (7, 4)}
    for spec in CATEGORIES.values():
        assert spec.accent in spec.part
        assert len(spec.attributes) >= 3
        for attribute in spec.attributes:
            assert len(attribute.values) >= 2
            phrases = [p for values in attribute.phrases.values() for p in values]
            assert len(phrases) == len(set(phrases)), f"{spec.name}: two values of {attribute.name} share a phrase"
        for part in spec.parts:
            assert part.when is None or set(part.when[1]) <= set(spec.attribute[part.when[0]].values)


def test_product_lines_differ_where_it_can_be_seen() -> None:
    for lines in LINES_OF.values():
        for a, b in combinations(lines, 2):
            differences = sum(x != y for x, y in zip(a.signature, b.signature, strict=True))
            assert differences >= 2, f"{a.name} and {b.name}"


def test_held_out_lines_are_pairs_of_siblings_and_share_no_word_with_other_lines() -> None:
    assert len(HELDOUT_LINES) == 24
    words = Counter(word for line in LINES.values() for word in set(line.name.lower().split()))
    assert all(words[word] == 1 for line in HELDOUT_LINES for word in line.name.lower().split())
    for category in {line.category for line in HELDOUT_LINES}:
        lines = [line for line in HELDOUT_LINES if line.category == category]
        turned = []
        for a, b in combinations(lines, 2):
            places = [k for k, (x, y) in enumerate(zip(a.signature, b.signature, strict=True)) if x != y]
            if lines.index(a) // 2 == lines.index(b) // 2:
                assert len(places) == 2, f"{a.name} and {b.name}"
                assert places[0] == 2  # the second colour
                assert places[1] >= 5  # an attribute of the category's own
                turned.append(places[1])
            else:
                assert len(places) >= 3, f"{a.name} and {b.name}"
        assert len(lines) == 6
        assert len(set(turned)) == 3


def test_each_seen_line_is_as_frequent_as_any_other_of_its_kind() -> None:
    counts = Counter(kind_of(k)[1] for k in range(24_000))
    seen = [counts[line.name] for line in SEEN_LINES]
    held = [counts[line.name] for line in HELDOUT_LINES]
    assert 0.7 * 250 < min(seen) <= max(seen) < 1.3 * 250  # 24,000 / 16 categories / 2 / 3; five standard deviations
    assert 0.5 * 83 < min(held) <= max(held) < 1.5 * 83


def test_no_name_token_says_anything_about_looks() -> None:
    words = {w for c in CATEGORIES.values() for text in (c.name, *c.synonyms, *(p.name for p in c.parts)) for w in text.split()}
    words |= {
        w for c in CATEGORIES.values() for a in c.attributes for ps in a.phrases.values() for p in ps for w in p.replace(",", "").split()
    }
    words |= set(COLOURS) | set(PATTERNS) | {m for c in CATEGORIES.values() for m in c.materials}
    assert not words & {word for line in LINES.values() for word in line.name.lower().split()}


def test_half_of_the_items_are_of_a_line_and_show_its_signature() -> None:
    goods = [item(k) for k in MANY]
    assert 0.46 < sum(i.line is not None for i in goods) / len(goods) < 0.54
    for thing in goods:
        signatures = {line.signature for line in LINES.values()}
        assert (thing.signature in signatures) == (thing.line is not None)
        if thing.line is not None:
            assert LINES[thing.line].signature == thing.signature


def test_attributes_of_no_name_goods_are_spread_evenly() -> None:
    goods = [i for i in map(item, MANY) if i.line is None]
    for key, values in (("colour", COLOURS), ("category", CATEGORIES)):
        counts = Counter(getattr(i, key) for i in goods)
        assert set(counts) == set(values)
        assert min(counts.values()) > 0.55 * len(goods) / len(values)
    assert {i.views[0].background for i in goods} == set(BACKGROUNDS)
    assert all(i.colour != i.colour2 for i in goods)


def test_damage_fits_its_part() -> None:
    goods = [item(k) for k in MANY]
    counts = Counter(len(i.defects) for i in goods)
    assert 0.51 < counts[0] / len(goods) < 0.59
    assert max(counts) == 3
    for thing in goods:
        parts = {p.name: p for p in thing.parts}
        assert len({d.part for d in thing.defects}) == len(thing.defects)
        for defect in thing.defects:
            part = parts[defect.part]
            assert 0 <= defect.severity <= 1
            assert defect.material == (thing.material if part.material == "main" else part.material)
            if defect.type == "missing part":
                assert part.removable
            else:
                assert part.surface
                assert defect.type in DAMAGE_OF[defect.material]


def test_training_never_sees_a_held_out_line_nor_its_signature() -> None:
    heldout = {line.signature for line in HELDOUT_LINES}
    names = {word for line in HELDOUT_LINES for word in line.name.lower().split()}
    splits = Counter()
    for thing in map(item, MANY):
        split = split_of(thing)
        splits[split] += 1
        assert (thing.signature in heldout) == is_heldout(thing) == (split == "heldout")
        assert split_of_index(thing.index, thing.line) == split
        if split == "train":
            assert not names & set(captions(thing, Stream(thing.index, 1, 1)).lower().split())
    assert splits["train"] > 3.5 * splits["test"] > splits["heldout"] > 0


@settings(max_examples=60, deadline=None)
@given(index=st.integers(0, 2**40), seed=st.integers(0, 2**40))
def test_any_key_gives_a_whole_item(index: int, seed: int) -> None:
    thing = item(index, seed)
    assert len(thing.views) == VIEWS
    assert [name for name, _ in thing.attributes] == [a.name for a in thing.spec.attributes]
    assert json.loads(json.dumps(truth(thing)))["category"] == thing.category


def test_streams_are_uniform_and_their_methods_agree_with_them() -> None:
    stream = Stream(1, 2, 3)
    draws = [stream.random() for _ in range(4000)]
    assert 0 <= min(draws) < max(draws) < 1
    assert abs(sum(draws) / 4000 - 0.5) < 0.03
    assert Counter(stream.integer(4) for _ in range(4000)).most_common()[-1][1] > 850
    assert sorted(stream.shuffled(range(9))) == list(range(9))
    normals = [stream.normal(2.0) for _ in range(4000)]
    assert abs(sum(n * n for n in normals) / 4000 - 4) < 0.4
    assert Stream(1, 2, 3).random() == draws[0] != Stream(1, 2, 4).random()
