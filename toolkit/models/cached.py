"""A dual encoder that remembers: every image and text is encoded once, over all runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from toolkit.cache import FeatureStore, feature_key
from toolkit.errors import ImageError, UsageError
from toolkit.images import as_source
from toolkit.models.vision import describe_failure
from toolkit.types import EncodedBatch, ImageSource, PatchFeatures

if TYPE_CHECKING:
    from torch import nn

    from toolkit.models.base import DualEncoder, ImageLike

WINDOW = 8_192  # images that are looked up at once: bounds the memory
HASH_THREADS = 8
HASH_CHUNK = 32  # images a task: handing over single ones would cost as much as hashing them


class CachedEncoder:
    """A DualEncoder whose answers come from a FeatureStore where it has them.

    Keys are made of the encoder's fingerprint (weights, preprocessing, tokenizer, dtype), the site and the content of the image
    or text. So the answer can never be that of another model or of another image.
    """

    def __init__(self, encoder: DualEncoder, store: FeatureStore) -> None:
        self.inner, self.store = encoder, store
        self.name, self.fingerprint, self.dim = encoder.name, encoder.fingerprint, encoder.dim
        self.logit_scale, self.image_size = encoder.logit_scale, encoder.image_size
        self.module: nn.Module = encoder.module

    def __repr__(self) -> str:
        return f"CachedEncoder({self.inner!r})"

    def encode_images(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1. Raises: ImageError: on the first image that cannot be read."""
        result = torch.empty(len(images), self.dim)
        for batch in self.iter_images(images, batch_size=batch_size, workers=workers):
            if batch.failures:
                raise ImageError(batch.failures[0][1])
            result[batch.indices] = batch.embeddings
        return result

    def iter_images(self, images: Sequence[ImageLike], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        """As a stream, in order. Only images that are not in the store are decoded, equal ones once."""
        if batch_size < 1:
            raise UsageError(f"batch_size={batch_size} is not possible", hint="use 1 or more")
        for start in range(0, len(images), WINDOW):
            sources = [as_source(image) for image in images[start : start + WINDOW]]
            keys, failures = self._image_keys(sources, "image")
            known = self.store.get_many([key for key in keys if key])
            todo = {key: source for key, source in zip(keys, sources, strict=True) if key and key not in known}
            missing = list(dict.fromkeys(key for key in keys if key in todo))
            ready = _Emitter(keys, known, failures, start, self.dim)
            for batch in self.inner.iter_images([todo[key] for key in missing], batch_size=batch_size, workers=workers):
                fresh = {missing[index]: row.numpy() for index, row in zip(batch.indices, batch.embeddings, strict=True)}
                self.store.put_many(fresh, model=self.name)
                known.update(fresh)
                failures.update({missing[index]: sentence for index, sentence in batch.failures})
                yield from ready.emit(batch_size)
            yield from ready.emit(batch_size, last=True)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
        """(N, D) float32 on the CPU, L2 norm 1."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            return self.inner.encode_texts(texts, batch_size=batch_size)  # says what is wrong
        keys = {text: feature_key(self.fingerprint, "text", _text_id(text)) for text in texts}
        known = self.store.get_many(list(keys.values()))
        missing = [text for text, key in keys.items() if key not in known]
        if missing:
            rows = self.inner.encode_texts(missing, batch_size=batch_size).numpy()
            fresh = {keys[text]: row for text, row in zip(missing, rows, strict=True)}
            self.store.put_many(fresh, model=self.name)
            known.update(fresh)
        if not texts:
            return torch.empty(0, self.dim)
        return torch.from_numpy(np.stack([known[keys[text]] for text in texts]))

    def encode_patches(self, images: Sequence[ImageLike], *, batch_size: int = 32) -> PatchFeatures:
        """Patch embeddings in the joint space and the image embeddings. ViT towers only."""
        if not images:
            return self.inner.encode_patches(images, batch_size=batch_size)
        sources = [as_source(image) for image in images]
        keys, failures = self._image_keys(sources, "patches")
        names, _ = self._image_keys(sources, "image")
        for key in keys:
            if key in failures:
                raise ImageError(failures[key])
        known = self.store.get_many([*keys, *names])
        wanted = {key: (name, source) for key, name, source in zip(keys, names, sources, strict=True)}
        pairs = [(key, pair) for key, pair in wanted.items() if key not in known or pair[0] not in known]
        for start in range(0, len(pairs), batch_size):
            part = pairs[start : start + batch_size]
            found = self.inner.encode_patches([source for _, (_, source) in part], batch_size=batch_size)
            fresh = {key: grid.numpy() for (key, _), grid in zip(part, found.patches, strict=True)}
            fresh |= {name: row.numpy() for (_, (name, _)), row in zip(part, found.image, strict=True)}
            self.store.put_many(fresh, model=self.name)
            known.update(fresh)
        grids = [known[key] for key in keys]
        if len({grid.shape for grid in grids}) > 1:
            raise UsageError("the images have patch grids of different shapes", hint="encode images of one aspect ratio at a time")
        return PatchFeatures(torch.from_numpy(np.stack(grids)), torch.from_numpy(np.stack([known[name] for name in names])))

    def _image_keys(self, sources: Sequence[ImageSource], site: str) -> tuple[list[str], dict[str, str]]:
        """One key a source, and the sentences for those that could not even be read, under keys of their own."""
        failures: dict[str, str] = {}

        def key_of(number: int) -> str:
            try:
                return feature_key(self.fingerprint, site, sources[number].content_id())
            except Exception as error:  # as with decoding: one image does not end the run
                failures[f"failed {number}"] = describe_failure(sources[number], error)
                return f"failed {number}"

        def keys_of(numbers: range) -> list[str]:
            return [key_of(number) for number in numbers]

        parts = [range(start, min(start + HASH_CHUNK, len(sources))) for start in range(0, len(sources), HASH_CHUNK)]
        with ThreadPoolExecutor(max_workers=HASH_THREADS) as pool:
            return [key for part in pool.map(keys_of, parts) for key in part], failures


def _text_id(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Emitter:
    """Puts what is known back into the order of the images, as soon as there are no gaps before it."""

    def __init__(self, keys: list[str], known: dict[str, np.ndarray], failures: dict[str, str], offset: int, dim: int) -> None:
        self.keys, self.known, self.failures, self.offset, self.dim = keys, known, failures, offset, dim
        self.next = 0

    def emit(self, batch_size: int, *, last: bool = False) -> Iterator[EncodedBatch]:
        """Whole batches, and with ``last`` also the rest."""
        end = self.next
        while end < len(self.keys) and (self.keys[end] in self.known or self.keys[end] in self.failures):
            end += 1
        while end - self.next >= batch_size or (last and self.next < end):
            stop = min(self.next + batch_size, end)
            yield self._batch(range(self.next, stop))
            self.next = stop

    def _batch(self, positions: range) -> EncodedBatch:
        good = [position for position in positions if self.keys[position] in self.known]
        bad = [position for position in positions if self.keys[position] not in self.known]
        rows = np.stack([self.known[self.keys[position]] for position in good]) if good else np.empty((0, self.dim), np.float32)
        return EncodedBatch(
            [self.offset + position for position in good],
            torch.from_numpy(rows),
            [(self.offset + position, self.failures[self.keys[position]]) for position in bad],
        )
