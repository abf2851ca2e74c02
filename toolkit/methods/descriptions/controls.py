"""Controls of the semantic audit: pools without meaning but of the same shape, and labels without order.

Everything is drawn from a numpy generator, so that one seed gives the same control on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import UsageError
from toolkit.methods.descriptions.linter import words as tokens_of

if TYPE_CHECKING:
    from torch import Tensor

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PAIRS = 15
TRIES = 20
WORD_LIST = Path(__file__).resolve().parents[3] / "prompts" / "descriptions" / "waffleclip" / "word_list.json"

Generator = np.random.Generator


def generator(seed: int, *path: int) -> Generator:
    """An independent stream for every (seed, path)."""
    return np.random.default_rng([seed, *path])


@lru_cache(maxsize=1)
def common_words() -> tuple[str, ...]:
    """The word list that the random-word controls draw from. Source: WaffleCLIP, arXiv 2306.07282."""
    from toolkit.files import read_json

    return tuple(word for word in read_json(WORD_LIST) if word.strip())


def random_characters(texts: Sequence[str], rng: Generator) -> list[str]:
    """As many texts, each with as many words, each with as many letters; the letters are random.

    >>> [len(word) for word in random_characters(["a round rim"], generator(0))[0].split()]
    [1, 5, 3]
    """
    shapes = [[max(1, sum(c.isalnum() for c in word)) for word in text.split()] or [1] for text in texts]

    def draw(shape: Sequence[int]) -> str:
        letters = rng.integers(len(LETTERS), size=sum(shape))
        ends = np.cumsum(shape)
        return " ".join("".join(LETTERS[i] for i in letters[end - size : end]) for end, size in zip(ends, shape, strict=True))

    return _different(shapes, draw)


def random_words(texts: Sequence[str], words: Sequence[str], rng: Generator, names: Iterable[str] = ()) -> list[str]:
    """As many texts with as many words each, drawn from ``words`` without those that are part of a class name.

    Raises: UsageError: if no word is left.
    """
    banned = {token for name in names for token in tokens_of(name)}
    left = [word for word in words if not banned & set(tokens_of(word))]
    if not left:
        raise UsageError("no word is left to draw from once those of the class names are out", hint="give a longer word list")
    lengths = [max(1, len(text.split())) for text in texts]
    return _different(lengths, lambda length: " ".join(left[i] for i in rng.integers(len(left), size=length)))


def permuted_words(texts: Sequence[str], rng: Generator) -> list[str]:
    """The words of all texts, shuffled over the whole pool: its vocabulary without its phrases."""
    split = [text.split() for text in texts]
    pile = [word for words in split for word in words]
    shuffled = iter([pile[i] for i in rng.permutation(len(pile))])
    return [" ".join(next(shuffled) for _ in words) for words in split]


def waffle_texts(texts: Sequence[str], words: Sequence[str], rng: Generator, names: Iterable[str] = (), pairs: int = PAIRS) -> list[str]:
    """``pairs`` random-word texts and as many random-character ones, of the shape of texts of the pool.

    Drawn once and appended to the caption of every class. Source: WaffleCLIP, arXiv 2306.07282.
    """
    shape = [texts[i] for i in rng.integers(len(texts), size=pairs)]
    return [*random_words(shape, words, rng, names), *random_characters(shape, rng)]


def shuffled(labels: Tensor, rng: Generator) -> Tensor:
    """The same labels in random order: as many images of each class, none where it belongs but by chance."""
    import torch

    return labels[torch.from_numpy(rng.permutation(len(labels)))]


def derangement(n: int, rng: Generator) -> list[int]:
    """A uniform random permutation of ``n`` classes that leaves none in its place.

    Raises: UsageError: for a single class, which has no other place.
    """
    if n < 2:
        raise UsageError("the descriptions of one class cannot be swapped with another's")
    while True:  # one in e permutations is a derangement
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return [int(i) for i in order]


def _different(shapes: Sequence[Any], draw: Callable[[Any], str]) -> list[str]:
    """One text a shape; drawn again where it is there already, as long as the shape allows for more."""
    done: set[str] = set()
    texts = []
    for shape in shapes:
        text = draw(shape)
        for _ in range(TRIES):
            if text not in done:
                break
            text = draw(shape)
        done.add(text)
        texts.append(text)
    return texts
