"""Train and test within one marketplace: by item index, and by held-out product lines (names and exact signatures)."""

from __future__ import annotations

from evals.bazaar.items import Item
from evals.bazaar.lines import LINES, SIGNATURES

_EVERY = 5  # each fifth index is a test item


def is_heldout(item: Item) -> bool:
    """Whether the item shows the exact attribute combination of a held-out line: training must never see it."""
    line = SIGNATURES.get(item.signature)
    return line is not None and line.heldout


def split_of(item: Item) -> str:
    """ "train", "test", or "heldout" for what training must never see."""
    return "heldout" if is_heldout(item) else split_of_index(item.index, item.line)


def split_of_index(index: int, line: str | None) -> str:
    """``split_of`` the item with this index and product line (no-name goods never show a line's combination)."""
    if line is not None and LINES[line].heldout:
        return "heldout"
    return "test" if index % _EVERY == _EVERY - 1 else "train"


def is_train(item: Item) -> bool:
    return split_of(item) == "train"
