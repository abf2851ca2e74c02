"""Prepared questions as rows of tensors, and batches of them: padded on the left, pictures stacked as the processors do it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

IDS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class Row:
    """One prepared question.

    Attributes:
        index: its place in the caller's list.
        data: what the processor made of it, each tensor with a batch dimension of its own.
        pictures: content ids of its images; rows with the same ones have the same image features.
        tail: token ids that follow the prompt.
        job: what the tail is for.
    """

    index: int
    data: Mapping[str, Tensor]
    pictures: tuple[str, ...] = ()
    tail: tuple[int, ...] = ()
    job: object = None

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return int(self.data[IDS].shape[1])


def batches(rows: Iterable[Row], size: int) -> list[list[Row]]:
    """Batches of at most ``size`` rows of the same kind; rows of like length and with the same pictures stand together."""
    kinds: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[tuple(sorted(row.data))].append(row)
    made = []
    for members in kinds.values():
        members.sort(key=lambda row: (row.length, row.pictures, len(row.tail), row.index))
        made += [members[start : start + size] for start in range(0, len(members), size)]
    return made


def collate(rows: Sequence[Row], keys: Iterable[str], pads: Mapping[str, int], kind: str = "") -> dict[str, Tensor]:
    """One batch. Sequences are padded on the left to the longest, everything else at its end with zeros.

    Args:
        keys: which of the rows' tensors.
        pads: padding value of a sequence, 0 where none is given.
        kind: model type, for the token types of tails: PaliGemma counts what follows its prompt as another type.
    """
    rows = [_with_tail(row, kind) if row.tail else row for row in rows]
    joined = {}
    for key in keys:
        parts = [row.data[key] for row in rows]
        if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            shape = [max(part.shape[axis] for part in parts) for axis in range(1, parts[0].ndim)]
            left = _is_sequence(key, rows[0])
            parts = [_pad(part, [1, *shape], pads.get(key, 0), left=left) for part in parts]
        joined[key] = torch.cat(parts)
    return joined


def _is_sequence(key: str, row: Row) -> bool:
    tensor = row.data[key]
    return tensor.ndim >= 2 and tensor.shape[:2] == row.data[IDS].shape and (key in (IDS, MASK) or key.endswith(("_type_ids", "_mask")))


def _pad(tensor: Tensor, shape: Sequence[int], value: int, *, left: bool) -> Tensor:
    """``tensor`` in the first corner of a larger one; ``left``: at the end of its second axis."""
    padded = tensor.new_full((tensor.shape[0], *shape[1:]), value)
    place = [slice(0, length) for length in tensor.shape]
    if left:
        place[1] = slice(shape[1] - tensor.shape[1], shape[1])
    padded[tuple(place)] = tensor
    return padded


def _with_tail(row: Row, kind: str) -> Row:
    data = dict(row.data)
    for key, tensor in row.data.items():
        if not _is_sequence(key, row):
            continue
        if key == IDS:
            more = torch.tensor([row.tail], dtype=tensor.dtype)
        elif key == "cross_attention_mask":
            more = tensor[:, -1:].expand(-1, len(row.tail), *tensor.shape[2:])  # words after a picture go on seeing it
        else:
            value = 1 if key == MASK or (key == "token_type_ids" and kind == "paligemma") else 0
            more = tensor.new_full((1, len(row.tail), *tensor.shape[2:]), value)
        data[key] = torch.cat([tensor, more], dim=1)
    return replace(row, data=data)
