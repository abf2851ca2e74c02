"""``bazaar/...``: classification of procedural goods, without any files.

``category``, ``lines`` and ``lines-heldout`` ask by name. The names of held-out product lines occur in no training text, so there a model
can only guess; ``lines-described`` and ``lines-heldout-described`` show the same photos and say what the goods look like instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from evals.tasks.classify import ClassifyTask
from evals.tasks.labels import Names, match_in_order, read_names
from toolkit.config import fingerprint
from toolkit.errors import UsageError
from toolkit.types import Sample

DESCRIBED = "-described"
SIZES = (32, 1024)


def load_bazaar(
    name: str,
    classnames: Names | None = None,
    templates: Sequence[str] | None = None,
    *,
    split: str = "test",
    size: int = 96,
    view: int = 0,
    seed: int = 0,
) -> ClassifyTask:
    """The task of that name.

    Args:
        split: "test" or "train". size: side of the images in pixels. view: which of the item's views. seed: of the world of items.
        classnames: a mapping renames classes for the prompts; a list must agree with the task's own.
    """
    from evals import bazaar

    if not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"size must be a number of pixels from {SIZES[0]} to {SIZES[1]}, not {size!r}")
    if not isinstance(view, int) or not isinstance(seed, int) or min(view, seed) < 0:
        raise UsageError(f"view and seed must be numbers from 0, not {view!r} and {seed!r}")
    kind = name.partition("/")[2].removesuffix(DESCRIBED)
    names, own_templates, descriptions = bazaar.classify_spec(kind)
    rows = bazaar.classify_split(kind, split, seed)
    samples = [
        Sample(f"bazaar:{seed}:{index}:{view}", bazaar.RenderedImage(index, seed=seed, size=size, view=view), label)
        for index, label in rows
    ]
    spoken = tuple(described(line) for line in names) if name.endswith(DESCRIBED) else tuple(names)
    shown = _rename(spoken, classnames, name)
    pool = {shown[names.index(key)]: tuple(texts) for key, texts in descriptions.items()} if descriptions else None
    truth = {shown[names.index(key)]: texts for key, texts in bazaar.true_descriptions(kind).items()} if descriptions else None
    content = fingerprint("bazaar", samples[0].image.content_id() if samples and samples[0].image else "", size, view, seed)

    def train(wanted: str | None) -> list[Sample]:
        usual = "support" if kind == "lines-heldout" else "train"
        return list(load_bazaar(name, split=wanted or usual, size=size, view=view, seed=seed).items)

    full = name if split == "test" else f"{name}:{split}"
    where, pools = f"bazaar ({split}, {size} px)", {"bazaar": pool} if pool else {}
    prompts = tuple(templates or own_templates)
    return ClassifyTask(full, shown, samples, where, content, prompts, pool, pools=pools, train=train, truth=truth)


def described(line: str) -> str:
    """What a product line looks like, without a name of it: category, colours, pattern, material and parts."""
    from evals.bazaar.captions import PATTERN_WORDS
    from evals.bazaar.lines import LINES
    from evals.bazaar.world import CATEGORIES

    made = LINES[line]
    spec = CATEGORIES[made.category]
    parts = [attribute.phrases[value][0] for attribute, value in zip(spec.attributes, made.parts, strict=True)]
    material = "wooden" if made.material == "wood" else made.material
    look = f"{made.colour} {PATTERN_WORDS[made.pattern][0]} {material} {made.category}"
    return f"{look} with {made.colour2} {spec.accent}, " + ", ".join(parts)


def _rename(names: tuple[str, ...], given: Names | None, task: str) -> tuple[str, ...]:
    chosen = read_names(given)
    if chosen is None:
        return names
    if isinstance(chosen, dict):
        return tuple(chosen.get(name, name) for name in names)
    match_in_order(names, list(chosen), where=task)
    return tuple(chosen)
