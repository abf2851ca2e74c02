"""All that is known of an item in one JSON value: the item, its sale and its listing."""

from __future__ import annotations

from evals.bazaar.items import Item
from evals.bazaar.listings import listing
from evals.bazaar.price import sale
from evals.bazaar.splits import split_of
from toolkit.config import to_json
from toolkit.types import JSON


def truth(item: Item, anchor_elasticity: float = 1.0) -> dict[str, JSON]:
    """The item's fields, and ``split``, ``sale`` (with ``delta`` and ``market``) and ``listing``."""
    sold = sale(item, anchor_elasticity)
    record: dict[str, JSON] = to_json(item)
    record["attributes"] = dict(item.attributes)
    record["split"] = split_of(item)
    record["sale"] = {**to_json(sold), "market": sold.market, "delta": sold.delta, "fair_price": sold.fair_price}
    record["listing"] = to_json(listing(item))
    return record
