"""What an item sells for: a known law of depreciation, with every term of it kept.

    log price = e log MSRP + (1 - e) log M + age + condition + parts + region + month + demand + noise

``e`` is the anchor's elasticity (1: the price is proportional to the price when new) and ``M`` the middle price of the category,
so that e = 1 gives ``log price = log MSRP + terms``. The terms are logarithms of retention:

- age: - decay of the category * years (declining balance);
- condition: the log of a concave factor of the grade points g = 5 - sum(base of the type * severity * weight of the part), with the
  caps of ``defects.condition_points``; 1 for goods that do not work;
- parts: log 0.90 for each missing major accessory, log 0.97 for each minor one;
- market: the region's effect, a season of the category, and a demand shock shared by all goods of one category, region and month.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from evals.bazaar.defects import condition_points, deduction, grade_of
from evals.bazaar.items import Item
from evals.bazaar.streams import Stream
from evals.bazaar.world import CATEGORIES, REGIONS
from toolkit.errors import UsageError

_SALE, _DEMAND = 4, 6
MAJOR, MINOR = math.log(0.90), math.log(0.97)
NOISE_SD, DEMAND_SD, SEASON = 0.06, 0.05, 0.06
ELECTRIC = ("phone", "laptop", "headphones", "camera", "lamp", "watch")
BROKEN_SHARE = 0.04  # of electric goods that do not work

_POINTS = (1.0, 2.0, 3.0, 4.0, 5.0)
_FACTORS = (0.35, 0.62, 0.80, 0.92, 1.0)


@dataclass(frozen=True)
class DefectEffect:
    """What one defect does to the depreciation.

    Attributes:
        deduction: points that it costs before caps.
        delta: depreciation minus the depreciation if this defect alone were repaired; >= 0.
        price_if_repaired: the price in that case, same noise.
    """

    deduction: float
    delta: float
    price_if_repaired: float


@dataclass(frozen=True)
class Sale:
    """One sale of an item. The fields from ``age`` to ``noise`` are the log terms; they and the anchor sum to log ``price``."""

    msrp: float
    region: str
    month: int
    age_months: int
    works: bool
    points: float
    grade: str
    elasticity: float
    anchor: float
    age: float
    condition: float
    parts: float
    regional: float
    season: float
    demand: float
    noise: float
    price: float
    effects: tuple[DefectEffect, ...]

    @property
    def market(self) -> float:
        return self.regional + self.season + self.demand

    @property
    def delta(self) -> float:
        """Depreciation: 1 - price / MSRP."""
        return 1.0 - self.price / self.msrp

    @property
    def fair_price(self) -> float:
        """The price without the noise."""
        return self.price * math.exp(-self.noise)


def log_condition(points: float) -> float:
    """Log retention of a condition of 1 to 5 points: monotone and concave, 0 at 5.

    >>> log_condition(5.0), round(math.exp(log_condition(3.5)), 4)
    (0.0, 0.8579)
    """
    points = min(5.0, max(1.0, points))
    low = min(3, int(points) - 1)
    share = points - _POINTS[low]
    return (1 - share) * math.log(_FACTORS[low]) + share * math.log(_FACTORS[low + 1])


def log_parts(item: Item) -> float:
    """Log retention of the accessories that are missing."""
    return sum(MAJOR if a.major else MINOR for a in item.accessories if not a.present)


def season(category: str, month: int) -> float:
    """The category's effect of the month (1 to 12): a year's wave with its own peak."""
    peak = 1 + 5 * list(CATEGORIES).index(category) % 12
    return SEASON * math.cos(2 * math.pi * (month - peak) / 12)


@lru_cache(maxsize=4096)
def demand(seed: int, category: str, region: str, month: int) -> float:
    """The shock that all goods of one category, region and month share."""
    return Stream(seed, list(CATEGORIES).index(category), list(REGIONS).index(region), month, _DEMAND).normal(DEMAND_SD)


def middle_price(category: str) -> float:
    """The geometric middle of the category's prices when new."""
    low, high = CATEGORIES[category].msrp
    return math.sqrt(low * high)


def sale(item: Item, anchor_elasticity: float = 1.0) -> Sale:
    """The sale of an item: always the same one.

    Args:
        anchor_elasticity: of the price to the MSRP, in [0, 2]; 1.0 is the law, 0.45 the counter-example.
    Raises: UsageError: for another elasticity.
    """
    if not 0.0 <= anchor_elasticity <= 2.0:
        raise UsageError(
            f"the anchor's elasticity must lie in [0, 2], not {anchor_elasticity!r}", hint="1.0 is the law, 0.45 the counter-example"
        )
    stream = Stream(item.seed, item.index, _SALE)
    msrp = _msrp(item, stream)
    region, month = stream.choice(tuple(REGIONS)), 1 + stream.integer(12)
    age_months = min(120, int(-math.log(1 - stream.random()) * 26))
    works = not (item.category in ELECTRIC and stream.chance(BROKEN_SHARE))
    noise = stream.normal(NOISE_SD)
    anchor = anchor_elasticity * math.log(msrp) + (1 - anchor_elasticity) * math.log(middle_price(item.category))
    points = condition_points(item.defects, item.parts) if works else 1.0
    age, parts = -item.spec.decay * age_months / 12, log_parts(item)
    regional, shift, shock = REGIONS[region], season(item.category, month), demand(item.seed, item.category, region, month)
    others = anchor + age + parts + regional + shift + shock + noise
    price = math.exp(others + log_condition(points))
    effects = tuple(_effect(item, number, works, others, price, msrp) for number in range(len(item.defects)))
    return Sale(
        msrp, region, month, age_months, works, points, grade_of(points), anchor_elasticity, anchor, age, log_condition(points), parts,
        regional, shift, shock, noise, price, effects,
    )  # fmt: skip


def _msrp(item: Item, stream: Stream) -> float:
    """A product line has one price; no-name goods are cheaper and vary."""
    low, high = item.spec.msrp
    line, place = item.product_line, stream.random()
    raw = middle_price(item.category) * line.tier if line is not None else low * (high / low) ** (0.8 * place)
    return round(raw, 2) if raw < 20 else round(raw) - 0.01


def _effect(item: Item, number: int, works: bool, others: float, price: float, msrp: float) -> DefectEffect:
    weights = {p.name: p.weight for p in item.parts}
    defect = item.defects[number]
    rest = tuple(d for k, d in enumerate(item.defects) if k != number)
    repaired = math.exp(others + log_condition(condition_points(rest, item.parts) if works else 1.0))
    return DefectEffect(deduction(defect, weights[defect.part]), (repaired - price) / msrp, repaired)
