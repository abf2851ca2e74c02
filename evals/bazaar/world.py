"""What exists in Bazaar. Everything that a photo can show and a sentence can say is named here or in the goods."""

from __future__ import annotations

from evals.bazaar.goods_gadgets import CARRIED, GADGETS
from evals.bazaar.goods_home import HOME, WORN
from evals.bazaar.vocabulary import (
    BACKGROUNDS,
    BASE_DEDUCTION,
    COLOURS,
    DAMAGE_OF,
    DEFECT_TYPES,
    MATERIALS,
    PATTERNS,
    Attribute,
    Category,
    Part,
)

__all__ = [
    "BACKGROUNDS",
    "BASE_DEDUCTION",
    "CATEGORIES",
    "COLOURS",
    "DAMAGE_OF",
    "DEFECT_TYPES",
    "MATERIALS",
    "PATTERNS",
    "REGIONS",
    "Attribute",
    "Category",
    "Part",
]

CATEGORIES: dict[str, Category] = {c.name: c for c in (*GADGETS, *WORN, *HOME, *CARRIED)}

REGIONS: dict[str, float] = {  # effect on log price, mean 0
    "Norvik": 0.07,
    "Halden Bay": 0.04,
    "Osterlund": 0.01,
    "Marrowdale": -0.01,
    "Quillport": 0.02,
    "Tarn Valley": -0.03,
    "Sundmark": -0.04,
    "Brackwater": -0.06,
}
