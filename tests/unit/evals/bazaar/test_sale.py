"""The price law adds up; claims say what they say, and their verdicts are the item's truth."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from evals.bazaar.defects import Defect, condition_points, deduction, grade_of
from evals.bazaar.items import Item, item
from evals.bazaar.listings import listing
from evals.bazaar.price import MAJOR, MINOR, demand, log_condition, middle_price, sale
from evals.bazaar.record import truth
from evals.bazaar.world import CATEGORIES, REGIONS
from toolkit.errors import UsageError

MANY = range(1500)


@pytest.mark.parametrize("elasticity", [1.0, 0.45])
def test_the_log_terms_sum_to_the_log_price(elasticity: float) -> None:
    for thing in map(item, MANY):
        s = sale(thing, elasticity)
        total = s.anchor + s.age + s.condition + s.parts + s.regional + s.season + s.demand + s.noise
        assert total == pytest.approx(math.log(s.price), abs=1e-12)
        assert s.market == pytest.approx(s.regional + s.season + s.demand, abs=1e-15)
        assert s.msrp * (1 - s.delta) == pytest.approx(s.price)
        assert s.fair_price == pytest.approx(s.price / math.exp(s.noise))
        assert s.age == pytest.approx(-thing.spec.decay * s.age_months / 12)
        missing = [a for a in thing.accessories if not a.present]
        assert s.parts == pytest.approx(sum(MAJOR if a.major else MINOR for a in missing))


def test_elasticity_is_what_a_regression_finds() -> None:
    """OLS of log price without the other terms on log MSRP and category dummies gives back the switch."""
    names = list(CATEGORIES)
    for elasticity in (1.0, 0.45):
        rows, target = [], []
        for thing in map(item, range(2500)):
            s = sale(thing, elasticity)
            rows.append([math.log(s.msrp), *(float(thing.category == n) for n in names)])
            target.append(math.log(s.price) - s.age - s.condition - s.parts)
        slope = np.linalg.lstsq(np.array(rows), np.array(target), rcond=None)[0][0]
        assert slope == pytest.approx(elasticity, abs=0.02)
    with pytest.raises(UsageError, match="elasticity"):
        sale(item(0), 7.0)


def test_each_defect_has_its_counterfactual() -> None:
    seen = 0
    for thing in map(item, MANY):
        s = sale(thing)
        assert len(s.effects) == len(thing.defects)
        for number, effect in enumerate(s.effects):
            rest = replace(thing, defects=tuple(d for k, d in enumerate(thing.defects) if k != number))
            repaired = sale(rest)
            assert effect.price_if_repaired == pytest.approx(repaired.price, rel=1e-12)
            assert effect.delta == pytest.approx(s.delta - repaired.delta, abs=1e-12)
            assert effect.delta >= 0
            seen += effect.delta > 0.005
    assert seen > 400


def test_grade_points_follow_the_rules() -> None:
    thing = next(i for i in map(item, MANY) if i.category == "phone" and not i.defects)
    parts = thing.parts

    def of(kind: str, part: str, severity: float) -> Defect:
        return Defect(kind, part, "glass", (0.5, 0.5), 0.0, severity, 1)

    assert condition_points((), parts) == 5.0
    assert deduction(of("scratch", "screen", 0.4), 1.5) == pytest.approx(1.5 * 0.4 * 1.5)
    assert condition_points((of("scratch", "back", 0.4),), parts) == pytest.approx(5 - 1.5 * 0.4)
    assert condition_points((of("crack", "screen", 0.2),), parts) == 2.0, "a crack on a display caps the grade"
    assert condition_points((of("crack", "back", 0.2),), parts) == pytest.approx(5 - 3 * 0.2)
    assert condition_points(tuple(of("crack", "screen", 1.0) for _ in range(3)), parts) == 1.0
    assert [grade_of(p) for p in (5.0, 4.75, 4.74, 4.0, 3.99, 3.0, 2.0, 1.99, 1.0)] == list("AABBCCDEE")


def test_condition_factor_is_monotone_and_concave() -> None:
    points = np.linspace(1, 5, 81)
    values = np.array([log_condition(p) for p in points])
    steps = np.diff(values)
    assert (steps > 0).all()
    assert (np.diff(steps) < 1e-12).all()
    assert log_condition(9.0) == 0.0
    assert log_condition(0.0) == log_condition(1.0)


def test_prices_of_the_market_are_plausible() -> None:
    sales = [(i, sale(i)) for i in map(item, MANY)]
    assert abs(sum(REGIONS.values())) < 1e-9
    assert {s.region for _, s in sales} == set(REGIONS)
    assert {s.month for _, s in sales} == set(range(1, 13))
    assert np.mean([s.delta < 0 for _, s in sales]) < 0.08, "few goods sell above the price when new"
    grades = Counter(s.grade for _, s in sales)
    assert set(grades) == set("ABCDE")
    lines: dict[str, set[float]] = {}
    for thing, s in sales:
        if thing.line is not None:
            lines.setdefault(thing.line, set()).add(s.msrp)
    assert all(len(prices) == 1 for prices in lines.values()), "a product line has one price when new"
    assert demand(0, "mug", "Norvik", 3) == demand(0, "mug", "Norvik", 3) != demand(0, "mug", "Norvik", 4)
    assert 8 < middle_price("mug") < 45


def truth_of(thing: Item, claim: object) -> bool:
    """Whether a claim holds, worked out again from the item alone."""
    about, subject, part, present = claim.about, claim.subject, claim.part, claim.present  # type: ignore[attr-defined]
    if about == "accessory":
        return next(a.present for a in thing.accessories if a.name == subject) == present
    if about == "works":
        return sale(thing).works == present
    if about == "state":
        from evals.bazaar.listings import STATES

        return subject in STATES[sale(thing).grade]
    found = [d for d in thing.defects if subject in (d.type, "damage") and part in (None, d.part)]
    return bool(found) == present


def test_claims_stand_in_the_text_and_their_verdicts_are_true() -> None:
    verdicts: Counter[str] = Counter()
    for thing in map(item, MANY):
        text = listing(thing)
        for claim in text.claims:
            said = getattr(text, claim.field)[claim.start : claim.end]
            assert said.strip() == said != ""
            word = claim.subject if claim.about in ("accessory", "state") else None
            assert word is None or word in said
            assert claim.part is None or claim.part in said
            assert (claim.verdict == "supported") == truth_of(thing, claim), (thing.index, claim)
            verdicts[f"{claim.about}:{claim.verdict}"] += 1
        spoken = {
            d
            for c in text.claims
            if c.about == "defect"
            for d, x in enumerate(thing.defects)
            if c.subject == x.type and c.part in (None, x.part)
        }
        assert spoken | set(text.omitted) == set(range(len(thing.defects)))
        assert not spoken & set(text.omitted)
        verdicts["omitted"] += len(text.omitted)
    for kind in ("defect:supported", "defect:contradicted", "accessory:supported", "accessory:contradicted", "omitted"):
        assert verdicts[kind] > 20, kind
    assert verdicts["state:contradicted"] > 10


def test_honest_sellers_name_everything() -> None:
    honest = [(i, listing(i)) for i in map(item, MANY) if listing(i).seller == "honest"]
    assert 0.55 < len(honest) / len(MANY) < 0.65
    assert all(not text.omitted and all(c.verdict == "supported" for c in text.claims) for _, text in honest)


def test_the_truth_of_an_item_holds_every_term() -> None:
    record = truth(item(7))
    assert {"anchor", "age", "condition", "parts", "regional", "season", "demand", "noise", "price", "delta", "effects"} <= set(
        record["sale"]
    )
    assert record["listing"]["description"]
    assert truth(item(7), 0.45)["sale"]["elasticity"] == 0.45
