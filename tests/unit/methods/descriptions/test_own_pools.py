"""The pools that were written for the project keep their promises: visual, name-free, enough of them."""

from __future__ import annotations

import hashlib
import re

import pytest

from evals.tasks.prompts import PROMPTS, load_prompts
from toolkit.methods.descriptions.linter import lint

FROZEN = {  # version 1; another text is another version
    "eurosat": "6f9c25368f802d2a",
    "fashion_mnist": "0061be6d548fccbc",
    "sign_digits": "c914b9432f3c9ea7",
}


def stems(words: list[str]) -> set[str]:
    return {form for word in words for form in (word, word + "s", word.removesuffix("s"))}


@pytest.mark.parametrize("name", FROZEN)
def test_own_pools_are_clean(name: str) -> None:
    prompts = load_prompts(name)
    pool = prompts.pools["ours"]
    assert list(pool) == list(prompts.classnames)
    found = lint(pool, prompts.classnames)
    assert found.hits == ()
    spellings = [word for one, others in zip(prompts.classnames, prompts.aliases, strict=True) for word in (one, *others)]
    banned = stems([word for text in spellings for word in re.findall(r"[a-z0-9]+", text.lower()) if len(word) >= 4])
    banned |= {text.lower() for text in prompts.classnames}
    for texts in pool.values():
        assert len(texts) >= 8
        for text in texts:
            assert not banned & set(re.findall(r"[a-z0-9]+", text.lower())), text
            assert text.isascii()
            assert len(text.split()) <= 20
            assert text == text.strip().rstrip(".")
    assert len({text for texts in pool.values() for text in texts}) == sum(map(len, pool.values()))


@pytest.mark.parametrize("name", FROZEN)
def test_own_pools_are_frozen(name: str) -> None:
    assert hashlib.sha256((PROMPTS / "descriptions" / "ours" / f"{name}.json").read_bytes()).hexdigest()[:16] == FROZEN[name]


def test_pools_have_names_and_the_default_is_one_of_them() -> None:
    eurosat = load_prompts("eurosat")
    assert set(eurosat.pools) == {"waffleclip", "ours", "mpvr"}
    assert eurosat.descriptions == eurosat.pools["waffleclip"]
    assert {len(texts) for texts in eurosat.pools["mpvr"].values()} == {len(set(texts)) for texts in eurosat.pools["mpvr"].values()}
    assert load_prompts("sign_digits").descriptions == load_prompts("sign_digits").pools["ours"]
    assert "descriptions/ours/eurosat.json" in eurosat.hashes
