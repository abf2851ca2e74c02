"""Exact rows of attention without eager attention, and reversible edits of what a layer attends to.

>>> with AttentionSession(model) as session:                   # doctest: +SKIP
...     rows = session.read([3, 7])
...     model.generate(**inputs)
>>> rows[7].shape                                              # doctest: +SKIP
torch.Size([1, 32, 620])
"""

from toolkit.attention.images import View
from toolkit.attention.prefill import LayerEdit, Prefill, Query, Rows
from toolkit.attention.session import AttentionSession

__all__ = ["AttentionSession", "LayerEdit", "Prefill", "Query", "Rows", "View"]
