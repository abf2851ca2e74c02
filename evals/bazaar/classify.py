"""The classification tasks: which items, which labels, which class names and prompts.

``category``: 16 categories. ``lines``: the 40 product lines that training may see. ``lines-heldout``: the 24 that it never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from evals.bazaar.items import Item, kind_of
from evals.bazaar.lines import HELDOUT_LINES, SEEN_LINES
from evals.bazaar.splits import split_of_index
from evals.bazaar.world import CATEGORIES
from toolkit.errors import UsageError, unknown_name

TASKS = ("category", "lines", "lines-heldout")
SPLITS = ("train", "test", "support")
PER_CLASS = {
    ("category", "test"): 60,
    ("lines", "test"): 30,
    ("lines-heldout", "test"): 40,
    ("category", "train"): 120,
    ("lines", "train"): 60,
    ("lines-heldout", "support"): 64,
}

TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a product photo of a {}",
    "a close-up photo of a {}",
    "an offer of a {}",
    "a used {}",
    "a second-hand {}",
)


def classify_names(task: str) -> tuple[str, ...]:
    """The class names in label order.

    Raises: UsageError: if there is no such task.
    """
    if task == "category":
        return tuple(CATEGORIES)
    if task == "lines":
        return tuple(line.name for line in SEEN_LINES)
    if task == "lines-heldout":
        return tuple(line.name for line in HELDOUT_LINES)
    raise unknown_name("bazaar task", task, TASKS)


@lru_cache(maxsize=16)
def _rows(task: str, split: str, seed: int) -> tuple[tuple[int, int], ...]:
    names = classify_names(task)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if (task, split) not in PER_CLASS:
        known = ", ".join(word for place, word in PER_CLASS if place == task)
        raise UsageError(f"bazaar/{task} has no split {split!r}", hint=f"its splits: {known}")
    wanted = "heldout" if task == "lines-heldout" else split
    left = dict.fromkeys(names, PER_CLASS[task, split])
    tested = dict.fromkeys(names, PER_CLASS[task, "test"] if split == "support" else 0)  # support are the items after the tested ones
    rows: list[tuple[int, int]] = []
    index = 0
    while left:
        category, line = kind_of(index, seed)
        key = category if task == "category" else line
        if key is not None and key in left and split_of_index(index, line) == wanted and tested[key]:
            tested[key] -= 1
        elif key is not None and key in left and split_of_index(index, line) == wanted:
            rows.append((index, names.index(key)))
            left[key] -= 1
            if left[key] == 0:
                del left[key]
        index += 1
    return tuple(rows)


def classify_split(task: str, split: str = "test", seed: int = 0) -> list[tuple[int, int]]:
    """(item index, label) of a task's split, the same number of each class, by index.

    Args:
        task: one of TASKS. seed: of the marketplace.
        split: "train" or "test"; "lines-heldout" has "test" and, for methods that learn from a few images, "support".
    Raises: UsageError: for an unknown task or split.
    """
    return list(_rows(task, split, seed))


def classify_spec(task: str) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Class names, templates with a ``{}``, and the class-name-free description pool by class name."""
    from evals.bazaar.descriptions import description_pool

    return classify_names(task), TEMPLATES, {name: pool.texts for name, pool in description_pool(task).items()}


def label_of(thing: Item, names: Sequence[str]) -> int:
    """The label of an item under these class names: of its product line or else of its category.

    Raises: UsageError: if neither is a class.
    """
    for key in (thing.line, thing.category):
        if key is not None and key in names:
            return names.index(key)
    raise UsageError(f"item {thing.index} of marketplace {thing.seed} is of none of these classes")
