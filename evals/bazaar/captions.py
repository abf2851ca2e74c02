"""Sentences about items, each with the facts that it claims.

A caption is true of every photo whose ``facts`` contain the caption's. So truth is known not only between a photo and its
own caption, but between any photo and any caption: training, retrieval and alignment tasks need no guess about negatives.
A fact is a string: ``category=mug``, ``with:a round handle``, ``damage:crack``, ``on:crack:body``, ``lacks:lid`` ...
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from evals.bazaar.defects import Defect
from evals.bazaar.items import Item
from evals.bazaar.lines import Line
from evals.bazaar.streams import Stream
from evals.bazaar.world import CATEGORIES, DEFECT_TYPES

Caption = tuple[str, frozenset[str]]

FAINT = 0.25  # damage below this severity is claimed neither present nor absent: it can hardly be seen

PHOTOS = (
    "a photo of {}",
    "a picture of {}",
    "{}",
    "{}",
    "a product photo of {}",
    "a used {0:}",
    "a second-hand {0:}",
    "a close-up photo of {}",
    "an offer of {}",
)

PATTERN_PHRASES: dict[str, tuple[str, ...]] = {
    "plain": ("a plain {c} surface", "one plain {c} colour", "no pattern", "plain {c}"),
    "striped": ("{c} and {d} stripes", "wide {d} stripes on {c}", "{c} with {d} stripes", "broad horizontal stripes", "{d} stripes on {c}"),
    "pinstriped": ("{c} and {d} pinstripes", "thin {d} lines on {c}", "fine upright stripes"),
    "dotted": ("{d} dots on {c}", "{c} with {d} dots", "polka dots", "round dots all over"),
    "checked": ("{c} and {d} checks", "{c} and {d} squares", "{c} with {d} checks", "a checkerboard pattern", "squares in two colours"),
    "zigzag": ("{c} and {d} zigzags", "{d} zigzag lines on {c}", "a zigzag pattern"),
    "two-tone": ("half {c} and half {d}", "two halves in {c} and {d}", "{c} on top and {d} at the bottom"),
}
PATTERN_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain",),
    "striped": ("striped",),
    "pinstriped": ("pinstriped", "finely striped"),
    "dotted": ("dotted", "polka dot"),
    "checked": ("checked", "checkered"),
    "zigzag": ("zigzag", "zigzag patterned"),
    "two-tone": ("two-tone",),
}
MATERIAL_PHRASES: dict[str, tuple[str, ...]] = {
    "leather": ("leather", "smooth leather", "a leather surface"),
    "metal": ("metal", "shiny metal", "a metal surface"),
    "fabric": ("fabric", "woven fabric", "woven cloth"),
    "plastic": ("plastic", "glossy plastic", "a smooth plastic surface"),
    "wood": ("wood", "wood with a grain", "visible wood grain"),
    "ceramic": ("ceramic", "glazed ceramic", "a glazed surface"),
    "plush": ("plush", "soft plush"),
    "denim": ("denim", "denim cloth", "coarse denim"),
}
BACKGROUND_PHRASES: dict[str, tuple[str, ...]] = {
    "studio": ("in front of a plain studio background", "on a plain background"),
    "wood": ("on a wooden table", "on wooden boards"),
    "cloth": ("on a cloth", "on a piece of cloth"),
    "tiles": ("on a tiled floor", "on tiles"),
    "room": ("in a blurred room", "with a room behind it"),
}
DAMAGE_WORDS: dict[str, tuple[str, ...]] = {  # adjectives, then noun phrases
    "scratch": ("scratched", "a scratch", "scratches", "scuff marks"),
    "crack": ("cracked", "a crack", "cracks"),
    "dent": ("dented", "a dent", "a dented spot"),
    "stain": ("stained", "a stain", "a dirty spot"),
    "tear": ("torn", "a tear", "a hole"),
    "missing part": ("incomplete", "a missing part", "something missing"),
}
ABSENT_WORDS: dict[str, tuple[str, ...]] = {
    "scratch": ("without scratches", "no scratches", "unmarked"),
    "crack": ("without cracks", "intact", "no crack"),
    "dent": ("without dents", "in its original shape"),
    "stain": ("clean", "spotless", "no stains"),
    "tear": ("without holes", "no tear"),
    "missing part": ("complete", "nothing missing"),
}
DAMAGED = ("damaged", "with damage", "with a defect", "with a flaw", "in bad condition", "broken", "with visible damage")
PERFECT = (
    "undamaged",
    "flawless",
    "perfect",
    "unblemished",
    "without damage",
    "without defect",
    "without flaw",
    "in perfect condition",
    "no damage",
    "like new",
)
SEVERITY = ((0.62, ("deep", "severe", "large")), (0.42, ("clear", "visible")), (0.0, ("light", "small", "slight")))


def facts(item: Item, view: int = 0) -> frozenset[str]:
    """Everything that a caption may claim about photo ``view`` of ``item``."""
    gone = item.missing_parts
    found = {
        "kind=goods",
        f"category={item.category}",
        f"colour={item.colour}",
        f"colour2={item.colour2}",
        f"pattern={item.pattern}",
        f"material={item.material}",
        f"accent={item.spec.accent}:{item.colour2}",
        f"background={item.views[view].background}",
    }
    if item.line is not None:
        found |= {f"line={item.line}", f"brand={item.line.split()[0]}"}
    for name, value in item.attributes:
        found |= {
            f"with:{phrase}" for phrase in item.spec.attribute[name].phrases[value] if not any(part.rstrip("s") in phrase for part in gone)
        }
    clear = [d for d in item.defects if d.severity >= FAINT]
    for defect in clear:
        found |= {"damaged", f"damage:{defect.type}", f"on:{defect.type}:{defect.part}", f"level:{_level(defect)}:{defect.type}"}
    if not item.defects:
        found.add("undamaged")
    found |= {f"no:{kind}" for kind in DEFECT_TYPES if all(d.type != kind for d in item.defects)}
    found |= {f"gone:{part}" for part in gone}
    if item.views[view].contents:
        found |= {f"{'has' if a.present else 'lacks'}:{a.name}" for a in item.accessories}
    return frozenset(found)


def caption(item: Item, rng: Stream, kind: str | None = None, view: int = 0) -> Caption:
    """One sentence about photo ``view`` of ``item`` and the facts that it claims; ``kind`` is a key of ``KINDS`` or drawn."""
    if kind is None:
        kind = rng.weighted(tuple(KINDS), _WEIGHTS)
    text, claims = KINDS[kind](item, rng, view)
    return (text, claims) if claims <= facts(item, view) else _category(item, rng, view)  # says something of a missing part


def captions(item: Item, rng: Stream, kind: str | None = None, view: int = 0) -> str:
    """``caption`` without its facts."""
    return caption(item, rng, kind, view)[0]


def attribute_caption(item: Item) -> str:
    """The full description of what is seen, without names and always the same: for retrieval."""
    look = f"{item.colour} {PATTERN_WORDS[item.pattern][0]} {_made(item.material)} {item.category}"
    seen = facts(item)
    phrases = [item.spec.attribute[name].phrases[value][0] for name, value in item.attributes]
    details = [f"{item.colour2} {item.spec.accent}", *(phrase for phrase in phrases if f"with:{phrase}" in seen)]
    return f"{_article(look)} with {', '.join(details)}"


@lru_cache(maxsize=64)
def line_attribute_texts(line: Line) -> tuple[str, ...]:
    """True descriptions of a product line: what is seen, at least 8, no brand, model or category word."""
    spec = CATEGORIES[line.category]
    texts = [p.format(c=line.colour, d=line.colour2) for p in PATTERN_PHRASES[line.pattern] if "{c}" in p]
    texts += [
        f"mostly {line.colour}",
        f"{line.colour} with {line.colour2} details",
        f"{line.colour2} {spec.accent}",
        f"made of {line.material}",
    ]
    for attribute, value in zip(spec.attributes, line.parts, strict=True):
        texts += list(attribute.phrases[value])
    banned = {word for name in (line.category, *spec.synonyms) for word in name.split()}
    return tuple(dict.fromkeys(t for t in texts if not banned & set(t.replace(",", "").split())))


def _noun(item: Item, rng: Stream) -> str:
    return item.category if rng.chance(0.7) else rng.choice(item.spec.synonyms)


def _article(text: str) -> str:
    return ("an " if text[0] in "aeiou" else "a ") + text


def _photo(noun: str, rng: Stream) -> str:
    form = rng.choice(PHOTOS)
    if "0:" in form:
        return form.format(noun)
    return form.format(_article(noun))


def _made(material: str) -> str:
    return "wooden" if material == "wood" else material


def _look(item: Item, rng: Stream, most: int) -> tuple[str, set[str]]:
    """Adjectives before the noun, 1 to ``most`` of colour, pattern and material."""
    options = [("colour", item.colour), ("pattern", rng.choice(PATTERN_WORDS[item.pattern])), ("material", _made(item.material))]
    count = 1 + rng.integer(most)
    chosen = options if count >= 3 else [options[0], rng.choice(options[1:])] if count == 2 else [rng.weighted(options, (0.6, 0.2, 0.2))]
    claims = {f"{key}={getattr(item, key)}" for key, _ in chosen}
    return " ".join(word for _, word in chosen), claims


def _detail(item: Item, rng: Stream) -> tuple[str, set[str]]:
    """A noun phrase for one visible detail."""
    draw = rng.random()
    if draw < 0.7:
        name, value = rng.choice(item.attributes)
        phrase = rng.choice(item.spec.attribute[name].phrases[value])
        return phrase, {f"with:{phrase}"}
    if draw < 0.85:
        form = rng.choice(PATTERN_PHRASES[item.pattern])
        claims = {f"pattern={item.pattern}"}
        claims |= {f"colour={item.colour}"} if "{c}" in form else set()
        claims |= {f"colour2={item.colour2}"} if "{d}" in form else set()
        return form.format(c=item.colour, d=item.colour2), claims
    if draw < 0.95:
        return f"{item.colour2} {item.spec.accent}", {f"accent={item.spec.accent}:{item.colour2}"}
    return f"{item.colour2} details", {f"colour2={item.colour2}"}


def _category(item: Item, rng: Stream, view: int) -> Caption:
    return _photo(_noun(item, rng), rng), frozenset({f"category={item.category}"})


def _line(item: Item, rng: Stream, view: int) -> Caption:
    if item.line is None:
        return _full(item, rng, view)
    noun = item.line if rng.chance(0.6) else f"{item.line} {item.category}"
    return _photo(noun, rng), frozenset({f"line={item.line}"})


def _adjectives(item: Item, rng: Stream, view: int) -> Caption:
    look, claims = _look(item, rng, 3)
    return _photo(f"{look} {_noun(item, rng)}", rng), frozenset(claims | {f"category={item.category}"})


def _full(item: Item, rng: Stream, view: int) -> Caption:
    """Long: adjectives, noun and 2 to 4 details."""
    look, claims = _look(item, rng, 3)
    details = []
    for _ in range(2 + rng.integer(3)):
        phrase, more = _detail(item, rng)
        if phrase not in details:
            details.append(phrase)
            claims |= more
    if rng.chance(0.15):
        return attribute_caption(item), frozenset(
            {f"category={item.category}", f"colour={item.colour}", f"pattern={item.pattern}", f"material={item.material}"}
            | {f"accent={item.spec.accent}:{item.colour2}"}
            | {f"with:{item.spec.attribute[name].phrases[value][0]}" for name, value in item.attributes}
        )
    return f"{_photo(f'{look} {_noun(item, rng)}', rng)} with {', '.join(details)}", frozenset(claims | {f"category={item.category}"})


def _phrase(item: Item, rng: Stream, view: int) -> Caption:
    """One detail, mostly without the noun."""
    draw = rng.random()
    if draw < 0.65:
        phrase, claims = _detail(item, rng)
        if rng.chance(0.25):
            return f"{_photo(_noun(item, rng), rng)} with {phrase}", frozenset(claims | {f"category={item.category}"})
        return rng.choice(("{}", "{}", "with {}", "a photo of something with {}")).format(phrase), frozenset(claims)
    if draw < 0.8:
        return rng.choice(
            (f"mostly {item.colour}", item.colour, f"{_article(item.colour)} thing", f"the main colour is {item.colour}")
        ), frozenset({f"colour={item.colour}"})
    if draw < 0.92:
        return rng.choice(("made of {}", "{}", "{}")).format(rng.choice(MATERIAL_PHRASES[item.material])), frozenset(
            {f"material={item.material}"}
        )
    return f"{item.colour} with {item.colour2} details", frozenset({f"colour={item.colour}", f"colour2={item.colour2}"})


def _level(defect: Defect) -> str:
    return next(words[0] for least, words in SEVERITY if defect.severity >= least)


def _condition(item: Item, rng: Stream, view: int) -> Caption:
    """Damage that is there, damage that is not, missing parts."""
    clear = [d for d in item.defects if d.severity >= FAINT]
    named = rng.chance(0.75)
    noun = _noun(item, rng) if named else rng.choice(("thing", "item", "article"))
    if rng.chance(0.25):
        look, claims = _look(item, rng, 1)
        noun = f"{look} {noun}"
    else:
        claims = set()
    claims |= {f"category={item.category}"} if named else set()
    if clear and rng.chance(0.85):
        text, more = _damage(rng.choice(clear), rng)
    elif not item.defects:
        text, more = rng.choice(PERFECT), {"undamaged"}
    else:
        absent = [kind for kind in DEFECT_TYPES if all(d.type != kind for d in item.defects)]
        kind = rng.choice(absent)
        text, more = rng.choice(ABSENT_WORDS[kind]), {f"no:{kind}"}
    return _joined(noun, text, rng), frozenset(claims | more)


def _damage(defect: Defect, rng: Stream) -> tuple[str, set[str]]:
    draw = rng.random()
    if draw < 0.25:
        return rng.choice(DAMAGED), {"damaged"}
    if defect.type == "missing part":
        return rng.choice(("without its {}", "the {} is missing", "with a missing {}")).format(defect.part), {f"gone:{defect.part}"}
    words = DAMAGE_WORDS[defect.type]
    if draw < 0.45:
        return words[0], {f"damage:{defect.type}"}
    noun = rng.choice(words[1:])
    if draw < 0.6:
        return f"with {noun}", {f"damage:{defect.type}"}
    if draw < 0.75:
        level = _level(defect)
        word = rng.choice(next(words for least, words in SEVERITY if defect.severity >= least))
        return f"with {_article(f'{word} {defect.type}')}", {f"damage:{defect.type}", f"level:{level}:{defect.type}"}
    return f"with {noun} on the {defect.part}", {f"on:{defect.type}:{defect.part}"}


def _joined(noun: str, text: str, rng: Stream) -> str:
    """Condition words before or behind the noun, whichever reads."""
    if text.startswith(("with", "in ", "without")):
        return f"{_photo(noun, rng)} {text}"
    if text.startswith(("no ", "the ", "nothing", "like")):
        return f"{_photo(noun, rng)}, {text}"
    return _photo(f"{text} {noun}", rng)


def _contents(item: Item, rng: Stream, view: int) -> Caption:
    """Accessories that lie beside the item, or do not; only photos of the contents can say."""
    if not item.views[view].contents or not item.accessories:
        return _scene(item, rng, view)
    thing = rng.choice(item.accessories)
    noun = _noun(item, rng)
    if thing.present:
        text, fact = rng.choice(("with its {}", "with {}", "and its {} beside it", "including the {}")), f"has:{thing.name}"
    else:
        text, fact = rng.choice(("without its {}", "without {}", "no {} included", "sold without the {}")), f"lacks:{thing.name}"
    return f"{_photo(noun, rng)} {text.format(thing.name)}", frozenset({f"category={item.category}", fact})


def _scene(item: Item, rng: Stream, view: int) -> Caption:
    background = item.views[view].background
    where = rng.choice(BACKGROUND_PHRASES[background])
    return f"{_photo(_noun(item, rng), rng)} {where}", frozenset({f"category={item.category}", f"background={background}"})


KINDS: dict[str, Callable[[Item, Stream, int], Caption]] = {
    "category": _category,
    "line": _line,
    "adjectives": _adjectives,
    "full": _full,
    "phrase": _phrase,
    "condition": _condition,
    "contents": _contents,
    "scene": _scene,
}
_WEIGHTS = (0.12, 0.16, 0.14, 0.2, 0.22, 0.1, 0.03, 0.03)
