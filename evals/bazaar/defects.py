"""Damage: which kinds an item has, on which part, where and how bad. The drawing of it is in ``damage.py``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.bazaar.streams import Stream
from evals.bazaar.world import BASE_DEDUCTION, DAMAGE_OF, Part


@dataclass(frozen=True)
class Defect:
    """One damage.

    Attributes:
        type: a word of ``world.DEFECT_TYPES``.
        part: the part that it is on, or that is missing.
        material: of that part.
        place: (x, y) in [0, 1] within the part's bounding box, where the damage is wanted; it lies at the nearest visible place.
        angle: degrees. severity: [0, 1], governs size and contrast. shape: seed of its outline.
    """

    type: str
    part: str
    material: str
    place: tuple[float, float]
    angle: float
    severity: float
    shape: int


def draw_defects(stream: Stream, parts: Sequence[Part], material: str) -> tuple[Defect, ...]:
    """0 to 3 defects (none for 55 % of the items), at most one on a part and at most one part missing."""
    count = stream.weighted((0, 1, 2, 3), (0.55, 0.28, 0.12, 0.05))
    defects: list[Defect] = []
    for _ in range(count):
        used = {d.part for d in defects}
        surfaces = [p for p in parts if p.surface and p.name not in used]
        removable = [p for p in parts if p.removable and p.name not in used]
        lost = any(d.type == "missing part" for d in defects)
        if removable and not lost and stream.chance(0.2):
            part, kind = stream.choice(removable), "missing part"
        elif surfaces:
            part = stream.choice(surfaces)
            kind = stream.choice(DAMAGE_OF[_material(part, material)])
        else:
            break
        severity = 1.0 if kind == "missing part" else stream.uniform(0.12, 1.0)
        place = (stream.uniform(0.2, 0.8), stream.uniform(0.2, 0.8))
        defects.append(Defect(kind, part.name, _material(part, material), place, stream.uniform(-60, 60), severity, stream.integer(2**31)))
    return tuple(defects)


def _material(part: Part, material: str) -> str:
    return material if part.material == "main" else part.material


CAP_WEIGHT = 1.5  # the weight of displays and lenses, whose cracks cap the grade


def deduction(defect: Defect, weight: float) -> float:
    """Points of condition that a defect costs on the scale 1 to 5, before caps."""
    return BASE_DEDUCTION[defect.type] * defect.severity * weight


def condition_points(defects: Sequence[Defect], parts: Sequence[Part]) -> float:
    """Condition g in [1, 5]: 5 minus the deductions; a crack on a display or lens caps it at 2."""
    weights = {p.name: p.weight for p in parts}
    points = 5.0 - sum(deduction(d, weights[d.part]) for d in defects)
    if any(d.type == "crack" and weights[d.part] >= CAP_WEIGHT for d in defects):
        points = min(points, 2.0)
    return max(1.0, points)


def grade_of(points: float) -> str:
    """A (like new), B (very good), C (good), D (acceptable), E (for parts)."""
    for letter, least in (("A", 4.75), ("B", 4.0), ("C", 3.0), ("D", 2.0)):
        if points >= least:
            return letter
    return "E"
