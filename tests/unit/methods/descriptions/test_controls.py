"""Controls of the audit: of the same shape as the real thing, without its meaning, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from toolkit.errors import UsageError
from toolkit.methods.descriptions.controls import (
    common_words,
    derangement,
    generator,
    permuted_words,
    random_characters,
    random_words,
    shuffled,
    waffle_texts,
)

TEXTS = ["a small, round handle", "two wheels", "x", "green leaves with white spots", "a hot-dog bun"]


def letters(text: str) -> list[int]:
    return [max(1, sum(c.isalnum() for c in word)) for word in text.split()]


def test_random_characters_keep_words_and_letters_and_nothing_else() -> None:
    found = random_characters(TEXTS, generator(0, 1))
    assert [letters(text) for text in found] == [letters(text) for text in TEXTS]
    assert not set(" ".join(found).split()) & {"round", "handle", "wheels", "green", "leaves", "white", "spots"}
    assert found == random_characters(TEXTS, generator(0, 1))
    assert found != random_characters(TEXTS, generator(0, 2))
    assert len(set(random_characters(["ab cd"] * 200, generator(0)))) == 200


def test_every_letter_is_as_likely_as_any_other() -> None:
    found = "".join(random_characters(["abcdefghij"] * 2000, generator(3)))
    counts = np.array([found.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"])
    expected = counts.sum() / 26
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-square with 25 degrees of freedom: p below 0.0001


def test_random_words_have_the_lengths_and_no_word_of_a_class_name() -> None:
    words = ["river", "lake", "stone", "glass", "tree"]
    found = random_words(TEXTS, words, generator(0), ["Sea-Lake", "river"])
    assert [len(text.split()) for text in found] == [len(text.split()) for text in TEXTS]
    assert set(" ".join(found).split()) <= {"stone", "glass", "tree"}
    with pytest.raises(UsageError, match="no word is left"):
        random_words(TEXTS, ["river"], generator(0), ["river"])


def test_the_shipped_word_list_has_no_blanks() -> None:
    assert len(common_words()) == 4329
    assert all(word.strip() for word in common_words())


def test_permuted_words_are_the_same_words_elsewhere() -> None:
    found = permuted_words(TEXTS, generator(0))
    assert sorted(" ".join(found).split()) == sorted(" ".join(TEXTS).split())
    assert [len(text.split()) for text in found] == [len(text.split()) for text in TEXTS]
    assert found != TEXTS


def test_waffle_noise_comes_in_pairs() -> None:
    noise = waffle_texts(TEXTS, ["stone", "glass"], generator(0), pairs=4)
    assert len(noise) == 8
    assert set(" ".join(noise[:4]).split()) <= {"stone", "glass"}
    assert not set(" ".join(noise[4:]).split()) & {"stone", "glass"}


def test_shuffled_labels_keep_the_classes_and_the_input() -> None:
    labels = torch.arange(50) % 5
    found = shuffled(labels, generator(0, 7))
    assert torch.equal(found.bincount(), labels.bincount())
    assert not torch.equal(found, labels)
    assert torch.equal(labels, torch.arange(50) % 5)


def test_derangements_are_uniform_and_leave_none_in_place() -> None:
    seen = {tuple(derangement(4, generator(0, number))) for number in range(300)}
    assert len(seen) == 9  # !4
    assert all(place != index for order in seen for index, place in enumerate(order))
    with pytest.raises(UsageError, match="one class"):
        derangement(1, generator(0))
