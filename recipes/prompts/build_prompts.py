"""Builds prompts/ from public files: class names in label order, templates, other spellings and name-free descriptions.

    python recipes/prompts/build_prompts.py DESCRIPTIONS TIMM_INFO

DESCRIPTIONS holds ``openai_clip`` (prompts.md, imagenet_classes.json, imagenet_templates.json, LICENSE), ``clip_benchmark``
(en_classnames.json, LICENSE), ``waffleclip`` (descriptors_*.json, word_list.json, LICENSE) and ``mpvr`` (gpt_EuroSAT.json, LICENSE),
each as published in the repository named in SOURCES. TIMM_INFO is ``timm/data/_info`` of an installed timm: WordNet ids and lemmas of
the ImageNet classes. descriptions/ours is written by hand and stays as it is.

Label order comes from lists whose order is that of the data set. ``prompts.md`` of openai_clip is used for templates only: its
class lists are in another order for some sets (EuroSAT).
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "prompts"
SOURCES = {
    "openai_clip": {"source": "openai/CLIP@d05afc4", "licence": "MIT"},
    "clip_benchmark": {"source": "LAION-AI/CLIP_benchmark@48de38c", "licence": "MIT"},
    "waffleclip": {"source": "ExplainableML/WaffleCLIP@7a1b8ee", "licence": "MIT"},
    "mpvr": {"source": "jmiemirza/Meta-Prompting@fb82b79", "licence": "MIT"},
    "wordnet": {"source": "WordNet 3.0 ids and lemmas", "licence": "WordNet 3.0"},
    "timm": {"source": "lists of ids and lemmas as in timm 1.0.31", "licence": "Apache-2.0"},
    "permafrost": {"source": "written for this project", "licence": "Apache-2.0"},
}
POOLS = {"imagenet": "imagenet", "cub200": "cub", "eurosat": "eurosat", "places365": "places365", "dtd": "dtd", "flowers102": "flowers102"}

EUROSAT_SPELLINGS = {
    "annual crop land": ["AnnualCrop", "Annual Crop", "Annual Crop Land", "annual crops"],
    "forest": ["Forest", "forests"],
    "brushland or shrubland": ["HerbaceousVegetation", "Herbaceous Vegetation", "Herbaceous Vegetation Land"],
    "highway or road": ["Highway", "Highway or Road"],
    "industrial buildings or commercial buildings": ["Industrial", "Industrial Buildings", "industrial buildings"],
    "pasture land": ["Pasture", "Pasture Land"],
    "permanent crop land": ["PermanentCrop", "Permanent Crop", "Permanent Crop Land", "permanent crops"],
    "residential buildings or homes or apartments": ["Residential", "Residential Buildings", "residential buildings"],
    "river": ["River"],
    "lake or sea": ["SeaLake", "Sea Lake", "Sea or Lake", "lake"],
}
FASHION = [
    ("t-shirt or top", ["T-shirt/top", "T - shirt / top", "tshirt"]),
    ("pair of trousers", ["Trouser", "trousers"]),
    ("pullover", ["Pullover"]),
    ("dress", ["Dress"]),
    ("coat", ["Coat"]),
    ("sandal", ["Sandal"]),
    ("shirt", ["Shirt"]),
    ("sneaker", ["Sneaker"]),
    ("bag", ["Bag"]),
    ("ankle boot", ["Ankle boot"]),
]
FASHION_TEMPLATES = [
    "a photo of a {}.",
    "a grayscale product photo of a {}.",
    "a low resolution photo of a {}, a piece of clothing.",
    "a {} on a black background.",
]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGIT_TEMPLATES = [
    "a photo of a hand showing the number {}.",
    "a hand sign for the digit {}.",
    "sign language for the number {}.",
    "a close-up photo of a hand that signs {}.",
]
# Places365 names a place and its kind as noun/kind. English puts most kinds first; these read better otherwise.
PLACES = {
    "bakery-shop": "bakery shop",
    "desert-vegetation": "desert with vegetation",
    "elevator-door": "elevator door",
    "moat-water": "moat with water",
    "subway_station-platform": "subway station platform",
    "temple-asia": "asian temple",
    "train_station-platform": "train station platform",
    "underwater-ocean_deep": "deep ocean underwater",
    "arcade (passageway)": "arcade passageway",
    "lock_chamber (canal)": "canal lock chamber",
    "kindergarden_classroom": "kindergarten classroom",
    "archaelogical_excavation": "archaeological excavation",
}
PLACES_SPELLINGS = {"arcade (passageway)": ["arcade"], "lock_chamber (canal)": ["lock_chamber"]}


def main(descriptions: Path, timm_info: Path) -> None:
    openai, names = descriptions / "openai_clip", read(descriptions / "clip_benchmark" / "en_classnames.json")
    pools = {name: read(descriptions / "waffleclip" / f"descriptors_{pool}.json") for name, pool in POOLS.items()}
    templates = openai_templates((openai / "prompts.md").read_text("utf-8"))

    shared = {"classnames": "clip_benchmark", "templates": "openai_clip"}
    pooled = {"classnames": "waffleclip", "templates": "openai_clip"}
    birds, places, textures = list(pools["cub200"]), list(pools["places365"]), list(pools["dtd"])
    land, flowers = names["eurosat"], names["flowers"]
    renamed = [[key] if key != name else [] for key, name in zip(pools["flowers102"], flowers, strict=True)]

    photo = "a photo of a {}."
    wordnet = {"classnames": "openai_clip", "templates": "openai_clip", "aliases": "wordnet timm"}
    many = read(openai / "imagenet_templates.json")
    write("imagenet", read(openai / "imagenet_classes.json"), imagenet_spellings(timm_info), many, wordnet, single=photo)
    write("cub200", birds, [[] for _ in birds], templates["Birdsnap"], pooled)
    write("eurosat", land, [EUROSAT_SPELLINGS[name] for name in land], templates["EuroSAT"], shared | {"aliases": "permafrost"})
    spellings = [[key, *PLACES_SPELLINGS.get(key, [])] for key in places]
    write("places365", [place_name(key) for key in places], spellings, templates["SUN397"], pooled | {"spelling": "permafrost"})
    write("dtd", textures, [[] for _ in textures], templates["DescribableTextures"], pooled)
    write("flowers102", flowers, renamed, templates["Flowers102"], shared | {"aliases": "waffleclip"})
    own = {"all": "permafrost"}
    write("fashion_mnist", [name for name, _ in FASHION], [other for _, other in FASHION], FASHION_TEMPLATES, own)
    write("sign_digits", DIGITS, [[str(digit)] for digit in range(10)], DIGIT_TEMPLATES, own)
    copy_pools(descriptions)


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def openai_templates(text: str) -> dict[str, list[str]]:
    """Heading -> the ``templates`` list of its code block."""
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        block = re.search(r"^templates = (\[.*?^\])", section, flags=re.MULTILINE | re.DOTALL)
        if block:
            found[section.split("\n", 1)[0].strip()] = ast.literal_eval(block.group(1))
    return found


def imagenet_spellings(info: Path) -> list[list[str]]:
    """Per class: WordNet id and lemmas. ``crane2`` is how label lists with unique names tell the machine from the bird."""
    lemmas = dict(line.split("\t", 1) for line in (info / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines())
    spellings = [
        [wnid, *(word.strip() for word in lemmas[wnid].split(","))] for wnid in (info / "imagenet_synsets.txt").read_text().split()
    ]
    spellings[517].append("crane2")
    return spellings


def place_name(key: str) -> str:
    """``church-outdoor`` -> ``outdoor church``."""
    if key in PLACES:
        return PLACES[key]
    noun, _, kind = key.partition("-")
    return f"{kind} {noun}".replace("_", " ").strip()


def source(word: str) -> dict[str, str]:
    return SOURCES[word] | ({} if word == "permafrost" else {"notice": f"licenses/{word}.txt"})


def write(
    name: str, classnames: list[str], aliases: list[list[str]], templates: list[str], origin: dict[str, str], single: str | None = None
) -> None:
    single = single or templates[0]
    pool = f"descriptions/{'waffleclip' if name in POOLS else 'ours'}/{name}.json"
    content = {
        "name": name,
        "version": 1,
        "sources": {part: [source(word) for word in words.split()] for part, words in origin.items()},
        "templates": {"single": single, "ensemble": templates},
        "descriptions": pool,
        "classes": [{"name": text, "aliases": other} for text, other in zip(classnames, aliases, strict=True)],
    }
    body = json.dumps({key: value for key, value in content.items() if key != "classes"}, indent=1, ensure_ascii=False)[:-2]
    rows = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in content["classes"])  # one class a line
    target = OUT / "classify" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'{body},\n "classes": [\n{rows}\n ]\n}}\n', "utf-8")
    print(f"{target.relative_to(ROOT)}: {len(classnames)} classes, {len(templates)} templates")


def copy_pools(descriptions: Path) -> None:
    """The description files as published, and the licence of every source of words."""
    target = OUT / "descriptions" / "waffleclip"
    target.mkdir(parents=True, exist_ok=True)
    for name, pool in POOLS.items():
        shutil.copyfile(descriptions / "waffleclip" / f"descriptors_{pool}.json", target / f"{name}.json")
    shutil.copyfile(descriptions / "waffleclip" / "word_list.json", target / "word_list.json")
    sentences = {key.lower(): texts for key, texts in read(descriptions / "mpvr" / "gpt_EuroSAT.json").items()}
    by_class = {
        name: next(sentences[word.lower()] for word in (name, *EUROSAT_SPELLINGS[name]) if word.lower() in sentences)
        for name in EUROSAT_SPELLINGS
    }
    (OUT / "descriptions" / "mpvr").mkdir(exist_ok=True)
    (OUT / "descriptions" / "mpvr" / "eurosat.json").write_text(json.dumps(by_class, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (OUT / "licenses").mkdir(exist_ok=True)
    for source in ("openai_clip", "clip_benchmark", "waffleclip", "mpvr"):
        shutil.copyfile(descriptions / source / "LICENSE", OUT / "licenses" / f"{source}.txt")
    for path in OUT.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
