"""What comes into the estimator: class names, texts, images and labels, checked and in one form."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from toolkit.errors import DataError, UsageError, near_matches
from toolkit.methods.descriptions.options import Options
from toolkit.methods.descriptions.pool import Pool, Source, load_pool
from toolkit.methods.descriptions.prototypes import text_classifier
from toolkit.methods.descriptions.selection import unit_rows

if TYPE_CHECKING:
    from toolkit.models.base import DualEncoder

_log = logging.getLogger(__name__)


class Inputs:
    """Class names, pool and their embeddings; and the one door for images and labels.

    Attributes:
        classnames: C names. aliases: other spelling -> name. pool: texts and owners.
        captions: (C, D), d: (P, D), unit rows in the precision of the options. tie_order: (P,) or None.
        fingerprint: of the encoder, or None. warnings: sentences for the user, also sent to the log.
    """

    def __init__(
        self,
        encoder: DualEncoder | None,
        classnames: Sequence[str] | Mapping[str, Sequence[str]],
        pool: Any,
        options: Options,
        *,
        captions: Any = None,
        descriptions: Any = None,
        other_pool: Source | None = None,
    ) -> None:
        self.options, self.encoder = options, encoder
        self.fingerprint: str | None = None if encoder is None else encoder.fingerprint
        if isinstance(classnames, str) or not classnames:
            raise UsageError("there are no classes", hint="pass classnames, one name for each class")
        self.classnames = tuple(classnames)
        self.aliases = {a: n for n, more in classnames.items() for a in more} if isinstance(classnames, Mapping) else {}
        self.warnings: list[str] = []
        if is_array(pool):
            descriptions, pool = pool, [f"description {number:07d}" for number in range(len(pool))]
            self.pool = Pool(tuple(pool), ((),) * len(self.classnames), self.classnames)
        else:
            self.pool = self._pool(pool, other_pool)
        self.captions = self._captions(captions)
        self.d = self._descriptions(descriptions)
        if self.captions.shape[1] != self.d.shape[1]:
            raise DataError(
                f"captions have width {self.captions.shape[1]} and descriptions {self.d.shape[1]}", hint="use one encoder for both"
            )
        order = self.pool.tie_order()
        self.tie_order = None if order == list(range(len(order))) else torch.tensor(order)
        if len(self.d) < options.k * options.m:
            self._warn(f"{len(self.d)} descriptions are fewer than k * m = {options.k * options.m}: many candidates will find fewer than m")

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)
            _log.warning("%s", sentence)

    def _pool(self, source: Any, other: Source | None) -> Pool:
        """The pool with this problem's class names, without leaks if the options say so."""
        if not isinstance(source, Pool):
            source = self._named(source)
            other = self._named(other) if other is not None and self.options.empty_list == "other_pool" else None
            published = self.options.pool_order == "published"
            source = load_pool(source, self.classnames, self.options.dedupe, published_order=published, other=other)
        if source.classnames != self.classnames:
            raise DataError("the pool was made for other classes or another order of them", hint="load it with these class names")
        for sentence in source.warnings:
            self._warn(sentence)
        return self._without_leaks(source)

    def _named(self, source: Any) -> Any:
        """Keys that are aliases become names."""
        if not self.aliases:
            return source
        if not isinstance(source, (Mapping, list, tuple)):
            from toolkit.files import read_json

            source = read_json(source)
        if not isinstance(source, Mapping):
            return source
        return {key if key in self.classnames else self.aliases.get(key, key): texts for key, texts in source.items()}

    def _without_leaks(self, pool: Pool) -> Pool:
        from toolkit.methods.descriptions.linter import lint

        leaks = set(lint(list(pool.texts) if pool.flat else pool.by_class(), self.classnames).leaks)
        if not leaks:
            return pool
        first = next(text for text in pool.texts if text in leaks)
        if self.options.leaks == "error":
            raise DataError(
                f"{len(leaks)} descriptions hold a class name, the first is {first!r}",
                hint="drop them: leaks=drop, or permafrost lint-pool",
            )
        if self.options.leaks == "report":
            self._warn(
                f"{len(leaks)} of {len(pool.texts)} descriptions hold a class name, the first is {first!r}: the pool is not free of names"
            )
            return pool
        self._warn(f"{len(leaks)} of {len(pool.texts)} descriptions were dropped because they hold a class name, the first is {first!r}")
        return pool.without(leaks)

    def _captions(self, given: Any) -> Tensor:
        if given is not None:
            rows = unit_rows(torch.as_tensor(given), "captions")
        elif self.encoder is not None:
            rows = text_classifier(self.encoder, self.classnames, self.options.caption_templates)
        else:
            raise UsageError("there is neither an encoder nor caption embeddings", hint="pass encoder=... or captions=(C, D)")
        if len(rows) != len(self.classnames):
            raise DataError(f"there are {len(rows)} captions for {len(self.classnames)} classes")
        return self.options.selection.tensor(rows)

    def _descriptions(self, given: Any) -> Tensor:
        if given is not None:
            rows = unit_rows(torch.as_tensor(given), "descriptions")
        elif self.encoder is not None:
            texts = [self.options.desc_template.replace("{}", text) for text in self.pool.texts]
            rows = unit_rows(self.encoder.encode_texts(texts), "descriptions")
        else:
            raise UsageError("there is neither an encoder nor description embeddings", hint="pass encoder=... or descriptions=(P, D)")
        if len(rows) != len(self.pool.texts):
            raise DataError(
                f"there are {len(rows)} description embeddings for {len(self.pool.texts)} different texts",
                hint="embed load_pool(...).texts, in that order",
            )
        return self.options.selection.tensor(rows)

    def _embed(self, X: Any) -> Tensor:
        """(N, D) unit rows of embeddings or images. Raises: DataError, ImageError: naming the row or image at fault."""
        if is_array(X) or (isinstance(X, (list, tuple)) and len(X) and is_array(X[0], 1)):
            x = unit_rows(torch.as_tensor(np.stack(X) if isinstance(X, (list, tuple)) else X), "image embeddings")
        elif self.encoder is not None:
            x = self.encoder.encode_images(X)
        else:
            raise UsageError("images need an encoder", hint="pass embeddings of shape (N, D), or an encoder")
        if x.shape[1] != self.captions.shape[1]:
            raise DataError(f"images have width {x.shape[1]} and captions {self.captions.shape[1]}", hint="use one encoder for both")
        return self.options.selection.tensor(x)

    def _labels(self, y: Any, count: int) -> Tensor:
        """(n,) class indices of indices or names."""
        values = y.tolist() if hasattr(y, "tolist") else list(y)
        known = {name: number for number, name in enumerate(self.classnames)}
        known |= {alias: known[name] for alias, name in self.aliases.items() if alias not in known}
        labels = []
        for number, value in enumerate(values):
            if isinstance(value, str) and value in known:
                labels.append(known[value])
            elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(self.classnames):
                labels.append(value)
            else:
                near = near_matches(value, known, most=1) if isinstance(value, str) else []
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"labels are class names or 0 to {len(self.classnames) - 1}; new classes need a caption"
                )
                raise DataError(f"label {number} is {value!r}, which is no class", hint=hint)
        if len(labels) != count:
            raise DataError(f"there are {count} images and {len(labels)} labels")
        return torch.tensor(labels, dtype=torch.long)


def is_array(value: Any, dimensions: int = 2) -> bool:
    """Whether it is a tensor or array of floats with so many dimensions: embeddings and not pixels."""
    if isinstance(value, Tensor):
        return value.ndim == dimensions and value.is_floating_point()
    return isinstance(value, np.ndarray) and value.ndim == dimensions and value.dtype.kind == "f"


def first_of_each(y: Tensor, most: int) -> Tensor:
    """Indices of the first images of each class, equally many of all classes that have any, in their order."""
    seen: dict[int, int] = {}
    number = []
    for label in y.tolist():
        number.append(seen.get(label, 0))
        seen[label] = number[-1] + 1
    limit = min([most, *seen.values()])
    return (torch.tensor(number, dtype=torch.long) < limit).nonzero()[:, 0]


def doubling_rounds(y: Tensor) -> Iterable[Tensor]:
    """Indices in rounds: one image of each class, then one more, two, four ...: batches for scoring before learning."""
    seen: dict[int, int] = {}
    rounds: dict[int, list[int]] = {}
    for index, label in enumerate(y.tolist()):
        number = seen.get(label, 0)
        seen[label] = number + 1
        rounds.setdefault(number.bit_length(), []).append(index)
    return [torch.tensor(rounds[number], dtype=torch.long) for number in sorted(rounds)]
