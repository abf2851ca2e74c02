"""EuroSAT train photos and captions of many kinds for them: class names, templates, and what the land looks like.

Facts are what a caption claims: a caption is true of every photo whose facts include the caption's. Attributes are of the
class, not of the single photo, so they are only used where they hold for nearly all photos of the class.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from toolkit.images import open_image

NAMES: dict[str, tuple[str, ...]] = {
    "AnnualCrop": ("annual crop land", "annual crop", "crop field", "arable land", "farmland with yearly crops"),
    "Forest": ("forest", "woodland", "dense forest", "wood"),
    "HerbaceousVegetation": (
        "brushland or shrubland",
        "herbaceous vegetation",
        "herbaceous vegetation land",
        "shrubland",
        "brushland",
        "wild grassland",
    ),
    "Highway": ("highway or road", "highway", "road", "motorway"),
    "Industrial": (
        "industrial buildings or commercial buildings",
        "industrial buildings",
        "industrial area",
        "factories",
        "commercial buildings",
    ),
    "Pasture": ("pasture land", "pasture", "meadow", "grazing land"),
    "PermanentCrop": ("permanent crop land", "permanent crop", "orchard", "vineyard", "plantation"),
    "Residential": (
        "residential buildings or homes or apartments",
        "residential buildings",
        "residential area",
        "houses",
        "homes or apartments",
        "suburb",
    ),
    "River": ("river", "a stream", "river bank"),
    "SeaLake": ("lake or sea", "sea or lake", "sea lake", "lake", "sea", "open water"),
}

# attribute -> (phrasings, classes that have it)
ATTRIBUTES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tilled": (
        (
            "bare brown soil and straight field borders",
            "large rectangular fields",
            "fields with parallel plough lines",
            "broad plots in different shades",
            "wide fields with sharp edges",
        ),
        ("AnnualCrop",),
    ),
    "trees": (
        (
            "a closed canopy of trees",
            "dark green everywhere",
            "tree tops side by side",
            "dark trees without any gap",
            "one even dark green surface",
        ),
        ("Forest",),
    ),
    "shrubs": (
        ("patchy shrubs and grass", "mottled green and brown ground", "low plants without field borders", "uneven wild growth"),
        ("HerbaceousVegetation",),
    ),
    "road": (
        (
            "a long straight line across the picture",
            "a wide gray road",
            "a paved line between fields",
            "a road with several lanes",
            "a smooth paved surface",
        ),
        ("Highway",),
    ),
    "halls": (
        (
            "large flat roofs",
            "big halls with bright roofs",
            "large gray and white buildings",
            "parking lots and halls",
            "wide roofs and asphalt",
        ),
        ("Industrial",),
    ),
    "meadow": (
        ("smooth light green grass", "even green meadows with hedges", "bright green open land", "soft green without rows"),
        ("Pasture",),
    ),
    "rows": (
        (
            "small plots with rows of trees",
            "rows of vines",
            "a fine pattern of planted rows",
            "dotted rows of bushes",
            "small stripes of orchards",
        ),
        ("PermanentCrop",),
    ),
    "houses": (
        (
            "many small roofs",
            "small houses in rows",
            "streets with small houses",
            "red and gray roofs close together",
            "gardens between small roofs",
        ),
        ("Residential",),
    ),
    "band": (
        (
            "a winding band of water",
            "a curved dark stream between banks",
            "water that runs through the land",
            "a stream bordered by vegetation",
        ),
        ("River",),
    ),
    "open water": (("an even dark blue surface", "nothing but water", "a smooth surface of blue water", "no land in sight"), ("SeaLake",)),
    "water": (("water", "there is water", "a picture with water"), ("River", "SeaLake")),
    "buildings": (("buildings", "a built-up area"), ("Industrial", "Residential")),
    "farming": (("farming", "cultivated land", "land used by farmers", "agriculture"), ("AnnualCrop", "PermanentCrop", "Pasture")),
    "crops": (("crops", "planted fields"), ("AnnualCrop", "PermanentCrop")),
    "line": (("a line that crosses the picture", "a path from one side to the other"), ("Highway", "River")),
}

TEMPLATES = (
    "a centered satellite photo of {}.",
    "a centered satellite photo of a {}.",
    "a centered satellite photo of the {}.",
    "a satellite photo of {}.",
    "a satellite photo of a {}.",
    "a satellite image of {}",
    "an aerial photo of {}",
    "an aerial view of {}",
    "{} seen from above",
    "{} from space",
    "a photo of {}.",
    "a photo of a {}.",
    "A photo of a {}.",
    "{}",
    "a small satellite tile of {}",
    "a blurry satellite photo of {}.",
    "a remote sensing image of {}",
)
ATTRIBUTE_TEMPLATES = (
    "{}",
    "a satellite photo with {}",
    "a satellite photo of {}.",
    "an aerial photo with {}",
    "a satellite image showing {}",
    "seen from above: {}",
    "{} from above",
)
KIND_TEXTS = (
    "a satellite photo",
    "an aerial image",
    "land seen from above",
    "a satellite image, not a product photo",
    "a photo from space",
)


def facts_of_class(name: str) -> frozenset[str]:
    """All facts that hold for a photo of class ``name``."""
    return frozenset(
        {"kind=satellite", f"land={name}"} | {f"land has {key}" for key, (_, classes) in ATTRIBUTES.items() if name in classes}
    )


def caption(name: str, rng: random.Random) -> tuple[str, frozenset[str]]:
    """One caption of a photo of class ``name`` and the facts that it claims."""
    draw = rng.random()
    own = [key for key, (_, classes) in ATTRIBUTES.items() if name in classes]
    if draw < 0.5:
        return rng.choice(TEMPLATES).format(rng.choice(NAMES[name])), frozenset({f"land={name}"})
    if draw < 0.85:
        key = rng.choice(own)
        return rng.choice(ATTRIBUTE_TEMPLATES).format(rng.choice(ATTRIBUTES[key][0])), frozenset({f"land has {key}"})
    if draw < 0.96:
        key = rng.choice(own)
        text = f"{rng.choice(TEMPLATES[:10]).format(rng.choice(NAMES[name])).rstrip('.')}, {rng.choice(ATTRIBUTES[key][0])}"
        return text, frozenset({f"land={name}", f"land has {key}"})
    return rng.choice(KIND_TEXTS), frozenset({"kind=satellite"})


def load(folder: Path, size: int) -> tuple[np.ndarray, list[str]]:
    """The train photos, resized as the model's processor does: (N, size, size, 3) uint8, and their class names."""
    import pyarrow.parquet as pq

    files = sorted(folder.glob("train-*.parquet"))
    if not files:
        raise SystemExit(f"no train-*.parquet in {folder}; pass the folder of the EuroSAT parquet files with --eurosat")
    names = sorted(NAMES)
    pixels: list[np.ndarray] = []
    labels: list[str] = []
    for file in files:
        table = pq.read_table(file, columns=["image", "label"])
        for row in table.to_pylist():
            photo = open_image(row["image"]["bytes"])
            pixels.append(np.asarray(photo.resize((size, size), Image.Resampling.BICUBIC)))
            labels.append(names[row["label"]])
    return np.stack(pixels), labels
