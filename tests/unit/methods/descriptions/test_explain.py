"""Explanations are exact: parts add up, flips are where they are said to be, taking a text away equals computing again without it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from tests.unit.methods.descriptions.explain_cases import C, P, answer, make, scored
from toolkit.errors import ShapeError, UsageError
from toolkit.methods.descriptions.explain import Fitted, explain
from toolkit.methods.descriptions.explain_text import plain, sentence
from toolkit.methods.descriptions.explanation import Explanation
from toolkit.methods.descriptions.flips import winner_at
from toolkit.methods.descriptions.selection import label_sets, nearest, predict

OPTIONS = [
    {},
    {"k": 2, "m": 1},
    {"k": 9, "m": 40},
    {"rank": "min", "keep": "gt"},
    {"fallback": "pool_mean", "m": 2},
    {"fallback": "assigned_pool_order"},
    {"size_norm": "set", "k": 4},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("w", [0.0, 0.7, 6.0])
def test_answers_and_parts_are_those_of_the_classifier(options: dict[str, object], w: float) -> None:
    for seed in range(2):
        fitted, photos = make(seed, w=w, **options)
        whole = scored(fitted, photos)
        for number, x in enumerate(photos):
            told = explain(fitted, x)
            assert told.label == int(predict(whole, w)[number])
            by_label = {row.label: row for row in told.candidates}
            for place, label in enumerate(whole.L[number].tolist()):
                assert by_label[label].a == pytest.approx(float(whole.A[number, place]), abs=1e-6)
                assert by_label[label].b == pytest.approx(float(whole.B[number, place]), abs=1e-6)
                if "size_norm" not in options:
                    assert by_label[label].caption_rank == place + 1
            for row in told.candidates:
                assert row.lead == pytest.approx(told.winner.score - row.score, abs=1e-6)
                assert row.name_part + row.description_part == pytest.approx(row.lead, abs=1e-12)
                assert row.name_part == pytest.approx(w * (told.winner.a - row.a), abs=1e-12)
                if row.texts and "size_norm" not in options:
                    assert sum(part.contribution for part in row.texts) == pytest.approx(row.b, abs=1e-6)


def test_selected_texts_their_order_and_margins_are_those_of_the_selection() -> None:
    fitted, photos = make(3)
    whole = scored(fitted, photos)
    for number, x in enumerate(photos):
        row_of = dict(zip(whole.selected.sets[whole.set_index[number]].tolist(), range(3), strict=True))
        for row in explain(fitted, x).candidates:
            chosen = whole.selected.chosen[whole.set_index[number], row_of[row.label]]
            margin = whole.selected.margin[whole.set_index[number], row_of[row.label]]
            assert [part.index for part in row.texts] == [p for p in chosen.tolist() if p >= 0]
            for part, expected in zip(row.texts, margin.tolist(), strict=False):
                assert part.margin is None if math.isnan(expected) else part.margin == pytest.approx(expected, abs=1e-6)


def test_excess_is_measured_against_the_photos_of_the_candidates() -> None:
    fitted, photos = make(1)
    told = explain(fitted, photos[0])
    rows_of = [row.label for row in told.candidates]
    for part in told.winner.texts:
        usual = fitted.similarity[rows_of, part.index].mean()
        assert part.excess == pytest.approx(float(fitted.descriptions[part.index] @ photos[0] - usual), abs=1e-6)
    without = explain(replace(fitted, from_photos=False), photos[0])
    assert all(part.excess is None for row in without.candidates for part in row.texts)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_answer_flips_exactly_at_the_ends_of_the_interval(options: dict[str, object]) -> None:
    ends = 0
    for seed in range(3):
        for w in (0.0, 0.4, 3.0):
            fitted, photos = make(seed, w=w, **options)
            for x in photos[:6]:
                told = explain(fitted, x)
                low, high = told.holds
                assert low <= w
                assert high is None or w <= high
                for end, sign in ((low, 1), (high, -1)):
                    if not end:
                        continue
                    ends += 1
                    assert answer(fitted, x, end + sign * 1e-4) == told.label
                    assert end < 1e-4 or answer(fitted, x, end - sign * 1e-4) != told.label
                assert answer(fitted, x, 1e7) == told.label if high is None else True
    assert ends > 8


def test_segments_cover_all_weights_and_name_the_winner_of_each() -> None:
    fitted, photos = make(2, k=6)
    for x in photos:
        told = explain(fitted, x)
        assert told.segments[0].low == 0.0
        assert told.segments[-1].high is None
        assert [one.high for one in told.segments[:-1]] == [one.low for one in told.segments[1:]]
        assert all(one.label != other.label for one, other in zip(told.segments, told.segments[1:], strict=False))
        for one in told.segments:
            middle = one.low + 1.0 if one.high is None else (one.low + one.high) / 2
            assert answer(fitted, x, middle) == one.label
        assert told.segments[-1].label == told.caption_label


@pytest.mark.parametrize("options", [one for one in OPTIONS if "size_norm" not in one], ids=str)
def test_taking_a_text_away_equals_computing_again_without_it(options: dict[str, object]) -> None:
    compared = 0
    for seed in range(2):
        fitted, photos = make(seed, **options)
        for x in photos[:3]:
            told = explain(fitted, x)
            for row in told.candidates:
                for part in row.texts:
                    again = without(fitted, part.index)
                    other = explain(again, x)
                    assert part.without.reselect_to == other.label == answer(again, x, fitted.w)
                    b = next(one.b for one in other.candidates if one.label == row.label)
                    assert part.without.reselect == pytest.approx(b, abs=1e-6)
                    rest = [one.cosine for one in row.texts if one.index != part.index]
                    if rest:
                        assert part.without.drop == pytest.approx(sum(rest) / len(rest), abs=1e-9)
                    b_drop = [part.without.drop if one.label == row.label else one.b for one in told.candidates]
                    a, labels = [one.a for one in told.candidates], [one.label for one in told.candidates]
                    assert part.without.drop_to == winner_at(a, b_drop, labels, fitted.w)
                    compared += 1
    assert compared >= 12


def without(fitted: Fitted, index: int) -> Fitted:
    """The same state with a pool that never held the text."""
    keep = [p for p in range(len(fitted.texts)) if p != index]
    place = {p: number for number, p in enumerate(keep)}
    assert fitted.own is not None
    return replace(
        fitted,
        texts=[fitted.texts[p] for p in keep],
        descriptions=fitted.descriptions[keep],
        similarity=fitted.similarity[:, keep],
        own=[[place[p] for p in own if p != index] for own in fitted.own],
    )


def test_a_text_that_decides_alone_is_found() -> None:
    found = 0
    for seed in range(4):
        fitted, photos = make(seed, w=0.3)
        for x in photos:
            told = explain(fitted, x)
            named = {(one.index, one.owner) for one in told.flipping}
            for row in told.candidates:
                for part in row.texts:
                    flips = told.label not in (part.without.drop_to,) or part.without.reselect_to != told.label
                    assert ((part.index, row.name) in named) == flips
            for one in told.flipping:
                if one.how in ("reselect", "both"):
                    assert fitted.classnames[answer(without(fitted, one.index), x, 0.3)] == one.to
                    found += 1
    assert found > 1


def test_descriptions_decide_where_the_caption_alone_says_otherwise() -> None:
    both = {True: 0, False: 0}
    for seed in range(4):
        fitted, photos = make(seed, w=0.4)
        for x in photos:
            told = explain(fitted, x)
            assert told.caption_label == int(nearest((x @ fitted.captions.T)[None], 1))
            assert told.descriptions_decide == (told.caption_label != told.label)
            both[told.descriptions_decide] += 1
            for row in told.rivals:
                assert row.descriptions_decide == (row.a > told.winner.a)
            if told.descriptions_decide:
                assert f"outvote the name, which speaks for {told.caption_name}" in sentence(told)
    assert min(both.values()) > 3


def test_a_name_without_weight_has_no_vote() -> None:
    fitted, photos = make(0, w=0.0)
    for x in photos:
        told = explain(fitted, x)
        said = f"the name would say {told.caption_name}" if told.descriptions_decide else "the name agrees"
        assert f"its descriptions decide alone, and {said}" in sentence(told)
        assert "-0.0000" not in plain(told).split("\n\n")[1].splitlines()[2].split("  ")[-3]


def test_one_candidate_needs_no_texts() -> None:
    fitted, photos = make(0, k=1)
    told = explain(fitted, photos[0])
    assert len(told.candidates) == 1
    assert told.winner.texts == ()
    assert told.flipping == ()
    assert told.winner.b == 0
    assert told.holds == (0.0, None)
    assert told.distance is None
    assert "caption decides" in told.notes[0]
    assert sentence(told).endswith("chosen by its caption.")


def test_a_class_without_photos_falls_back_and_says_so() -> None:
    fitted, photos = make(0, counts=(0, 5, 3, 4, 6, 2), k=6)
    told = explain(fitted, photos[0])
    empty = next(row for row in told.candidates if row.label == 0)
    assert empty.fallback
    assert [part.index for part in empty.texts] == list(fitted.own[0])[:5]
    assert all(part.margin is None for part in empty.texts)
    assert "There is no labelled photo of class 0." in told.notes
    pool = explain(replace(fitted, options=replace(fitted.options, fallback="pool_mean")), photos[0])
    row = next(row for row in pool.candidates if row.label == 0)
    assert row.texts == ()
    assert row.b == pytest.approx(float((fitted.descriptions @ photos[0]).mean()), abs=1e-6)
    assert any("mean of the whole pool" in note for note in pool.notes)


def test_linter_hits_and_an_oracle_weight_are_said() -> None:
    fitted, photos = make(0)
    index = explain(fitted, photos[0]).winner.texts[0].index
    told = explain(replace(fitted, hits={index: ("own name",)}, w_origin="oracle"), photos[0])
    assert told.winner.texts[0].hits == ("own name",)
    assert any("own name" in note for note in told.notes)
    assert any("oracle" in note for note in told.notes)


def test_json_holds_every_number_and_the_text_form_names_everyone() -> None:
    fitted, photos = make(4)
    told = explain(fitted, photos[0], sample="photo 0", truth=2)
    value = json.loads(json.dumps(told.to_json(), allow_nan=False))
    assert value["truth"] == "class 2"
    assert value["holds"] == list(told.holds)
    assert value["descriptions_decide"] == told.descriptions_decide
    assert value["candidates"][1]["texts"][0]["without"]["drop"] == told.candidates[1].texts[0].without.drop
    text = plain(told)
    assert sentence(told) in text
    assert str(told) == text
    for row in told.candidates:
        assert row.name in text
        assert all(part.text in text for part in row.texts)
    assert "\x1b" not in plain(explain(replace(fitted, texts=["\x1b[31mred"] * P), photos[0]))


def test_bad_input_is_a_sentence() -> None:
    fitted, photos = make(0)
    with pytest.raises(ShapeError, match="width 3"):
        explain(fitted, torch.ones(3))
    with pytest.raises(UsageError, match="different classes"):
        explain(fitted, photos[0], candidates=torch.tensor([1, 1]))


def test_the_set_of_candidates_can_be_given() -> None:
    fitted, photos = make(0)
    told: Explanation = explain(fitted, photos[0], candidates=torch.tensor([5, 0, 3]))
    assert {row.label for row in told.candidates} == {0, 3, 5}
    assert label_sets(torch.tensor([[5, 0, 3]]), C)[0].tolist() == [[0, 3, 5]]
