"""Rivals that only use texts, each against its definition written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.methods.descriptions.known import Known, direction, labels, predict, rows_of, samples, unit
from toolkit.errors import DataError, UsageError
from toolkit.methods import build_method
from toolkit.methods.descriptions.dclip import Dclip
from toolkit.methods.descriptions.texts import (
    TEMPLATES_7,
    joined,
    mean_of_sentences,
    names_class,
    ours,
    pool_source,
    published,
    templates_80,
)
from toolkit.methods.descriptions.waffle import Waffle, WaffleConfig
from toolkit.types import ClassifyProblem

NAMES = ("annual crop", "forest", "river", "sea")
LISTS = {
    "annual crop": ("a grid of fields", "brown soil"),
    "forest": ("trees", "dark green", "a canopy"),
    "river": ("a curved line", "water"),
    "sea": ("water", "blue"),
}
PROBLEM = ClassifyProblem(NAMES, ("a photo of {}.", "the {}."), LISTS)
TEST = samples(4, 30)


def scored(rows: torch.Tensor, encoder: Known) -> torch.Tensor:
    return rows_of(encoder, TEST) @ rows.double().T


def check(found: list[Any], scores: torch.Tensor, scale: float = 20.0) -> None:
    assert labels(found) == scores.argmax(dim=1).tolist()
    confidence = torch.tensor([one.output["confidence"] for one in found])
    torch.testing.assert_close(confidence.double(), (scale * scores).softmax(dim=1).amax(dim=1), atol=1e-5, rtol=1e-4)


def test_ensembles() -> None:
    encoder = Known()
    assert len(templates_80()) == len(set(templates_80())) == 80
    for word, templates in (("7", TEMPLATES_7), ("80", templates_80()), ("task", PROBLEM.templates)):
        rows = unit(torch.stack([torch.stack([direction(t.replace("{}", n)) for t in templates]).mean(0) for n in NAMES]))
        check(predict("ensemble", PROBLEM, TEST, templates=word), scored(rows, encoder))
    assert build_method("ensemble", {"templates": 7}).config.templates == "7"


@pytest.mark.parametrize("wording", ["ours", "published", "plain"])
def test_dclip_is_the_mean_cosine_of_its_sentences(wording: str) -> None:
    encoder = Known()
    sentences = [[joined("a photo of {}.", name, text, wording) for text in LISTS[name]] for name in NAMES]
    scores = torch.stack([torch.stack([rows_of(encoder, TEST) @ direction(s).double() for s in one]).mean(0) for one in sentences], dim=1)
    check(predict("dclip", PROBLEM, TEST, wording=wording), scores)


def test_the_wording_of_dclip() -> None:
    assert joined("a photo of a {}.", "cat", "whiskers ") == "a photo of a cat, which has whiskers."
    assert [ours(t) for t in ("a tail", "antlers", "an arch", "often red", "Has ears")] == [
        "which is a tail", "which has antlers", "which is an arch", "which often red", "which Has ears",
    ]  # fmt: skip
    assert [published(t) for t in ("a tail", "antlers", "used daily", "can fly", "wings")] == [
        "which is a tail", "which is antlers", "which is used daily", "which can fly", "which has wings",
    ]  # fmt: skip


def test_a_class_without_descriptions_keeps_its_caption() -> None:
    lists = {**LISTS, "sea": ()}
    sentences = Dclip().sentences(ClassifyProblem(NAMES, PROBLEM.templates, lists))
    assert sentences[3] == ["a photo of sea."]
    assert len(sentences[1]) == 3


def test_cupl_takes_sentences_that_name_the_class_and_completes_others() -> None:
    encoder = Known()
    lists = {**LISTS, "river": ("A River from above.", "blue line"), "sea": ()}
    said = [
        [f"a photo of annual crop, {text}." for text in LISTS["annual crop"]],
        [f"a photo of forest, {text}." for text in LISTS["forest"]],
        ["A River from above.", "a photo of river, blue line."],
        ["a photo of sea."],
    ]
    rows = unit(torch.stack([torch.stack([direction(s) for s in one]).mean(0) for one in said]))
    problem = ClassifyProblem(NAMES, PROBLEM.templates, lists)
    check(predict("cupl", problem, TEST), scored(rows, encoder))
    method = build_method("cupl", {"names": "as is"})
    assert method.sentences(problem)[2] == ["A River from above.", "blue line"]


def test_names_are_whole_words() -> None:
    assert names_class("annual-crop fields", "Annual Crop")
    assert not names_class("cropland that is annual", "annual crop")
    assert not names_class("a scar", "car")
    assert not names_class("anything", "...")


def test_waffle_noise_is_drawn_once_for_all_classes() -> None:
    texts = Waffle().texts(PROBLEM)
    assert len(texts[0]) == 30
    assert all(one == texts[0] for one in texts)
    assert Waffle().texts(PROBLEM) == texts
    assert Waffle(WaffleConfig(seed=1)).texts(PROBLEM) != texts
    banned = {word for name in NAMES for word in name.split()}
    assert not banned & {word for text in texts[0] for word in text.split()}
    encoder = Known()
    rows = torch.stack([torch.stack([direction(f"a photo of {n}, which has {t}.") for t in texts[0]]).mean(0) for n in NAMES])
    if not any(text.split()[0] in ("a", "an", "used", "has", "often", "typically", "may", "can") for text in texts[0]):
        check(predict("waffle", PROBLEM, TEST), scored(rows, encoder))


def test_the_controls_of_waffle_keep_the_shape_of_the_pool() -> None:
    sizes = [len(LISTS[name]) for name in NAMES]
    flat = sorted(text for texts in LISTS.values() for text in texts)
    words = sorted(word for text in flat for word in text.split())
    for mode in ("random", "swapped", "scrambled"):
        texts = Waffle(WaffleConfig(mode=mode)).texts(PROBLEM)
        if mode != "swapped":
            assert [len(one) for one in texts] == sizes
        together = sorted(text for one in texts for text in one)
        assert sorted(word for text in together for word in text.split()) == words
        assert (together == flat) is (mode != "scrambled")
    swapped = Waffle(WaffleConfig(mode="swapped")).texts(PROBLEM)
    assert all(list(LISTS[name]) != one for name, one in zip(NAMES, swapped, strict=True))
    shared = Waffle(WaffleConfig(mode="shared", pairs=3)).texts(PROBLEM)
    assert len(shared[0]) == 3
    assert all(one == shared[0] for one in shared)


def test_waffle_needs_no_pool_but_its_controls_do() -> None:
    bare = ClassifyProblem(NAMES, PROBLEM.templates)
    assert len(labels(predict("waffle", bare, TEST))) == len(TEST)
    with pytest.raises(UsageError, match="no descriptions"):
        predict("waffle", bare, TEST, mode="swapped")


def fudd_by_hand(encoder: Known, k: int, m: int, unit_rows: bool = False) -> list[int]:
    caption = torch.stack([direction(f"a photo of {name}.") for name in NAMES]).double()
    answers = []
    for x in rows_of(encoder, TEST):
        among = (caption @ x).argsort(descending=True, stable=True)[:k].tolist()
        best = []
        for c in among:
            means = []
            for other in sorted(among):
                if other == c:
                    continue
                texts = [text for text in LISTS[NAMES[c]] if text not in LISTS[NAMES[other]]]
                centre = [torch.stack([direction(t).double() for t in LISTS[NAMES[i]]]).mean(0) for i in (c, other)]
                texts.sort(key=lambda text: -float(direction(text).double() @ (centre[0] - centre[1])))
                means.append(torch.stack([direction(joined("a photo of {}.", NAMES[c], t)).double() for t in texts[:m]]).mean(0))
            mean = torch.stack(means).mean(0) if means else caption[c]
            best.append(float(x @ (unit(mean) if unit_rows else mean)))
        answers.append(among[max(range(len(among)), key=best.__getitem__)])
    return answers


@pytest.mark.parametrize(("k", "m", "average"), [(3, 2, "similarity"), (4, 1, "unit"), (10, 5, "similarity"), (1, 1, "unit")])
def test_fudd_against_a_loop(k: int, m: int, average: str) -> None:
    found = predict("fudd", PROBLEM, TEST, k=k, m=m, average=average)
    assert labels(found) == fudd_by_hand(Known(), k, m, average == "unit")


def test_fudd_takes_pair_files(tmp_path: Path) -> None:
    pairs = {"forest": {"sea": ["trees"], "river": []}, "sea": {"forest": ["waves", "blue"]}}
    (tmp_path / "pairs.json").write_text(json.dumps(pairs))
    two = ClassifyProblem(("forest", "sea", "river"), PROBLEM.templates)
    found = predict("fudd", two, TEST, pairs=str(tmp_path / "pairs.json"), k=2)
    caption = {name: direction(f"a photo of {name}.").double() for name in two.classnames}
    said = {
        ("forest", "sea"): direction("a photo of forest, which has trees.").double(),
        ("sea", "forest"): (direction("a photo of sea, which has waves.") + direction("a photo of sea, which has blue.")).double() / 2,
    }
    for x, label in zip(rows_of(Known(), TEST), labels(found), strict=True):
        first, second = sorted(two.classnames, key=lambda name: -float(caption[name] @ x))[:2]
        scores = {a: float(x @ said.get((a, b), caption[a])) for a, b in ((first, second), (second, first))}
        assert two.classnames[label] == max(scores, key=scores.__getitem__)


@pytest.mark.parametrize("content", ['["a"]', '{"forest": ["a"]}', '{"forest": {"cow": ["a"]}}', '{"forest": {"sea": "a"}}', "{"])
def test_wrong_pair_files(content: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_text(content)
    with pytest.raises(DataError):
        predict("fudd", PROBLEM, TEST, pairs=str(tmp_path / "pairs.json"))


def test_pools_by_name_and_file(tmp_path: Path) -> None:
    other = {name: (f"look of {number}",) for number, name in enumerate(NAMES)}
    problem = ClassifyProblem(NAMES, PROBLEM.templates, LISTS, pools={"ours": other})
    assert pool_source(problem) == LISTS
    assert pool_source(problem, "ours") == other
    (tmp_path / "mine.json").write_text(json.dumps({name: ["x"] for name in reversed(NAMES)}))
    assert Dclip().sentences(problem) != build_method("dclip", {"pool": "ours"}).sentences(problem)
    assert build_method("dclip", {"pool": str(tmp_path / "mine.json")}).sentences(problem)[0] == ["a photo of annual crop, which has x."]
    with pytest.raises(UsageError) as caught:
        pool_source(problem, "our")
    assert caught.value.hint == "did you mean 'ours'?"
    (tmp_path / "flat.json").write_text(json.dumps(["x", "y"]))
    with pytest.raises(UsageError, match="which class"):
        predict("dclip", problem, TEST, pool=str(tmp_path / "flat.json"))
    with pytest.raises(DataError, match="no descriptions for the class"):
        predict("dclip", ClassifyProblem(("cow", *NAMES), PROBLEM.templates, LISTS), TEST)


def test_sentences_are_averaged_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [[f"text {c} {i}" for i in range(3 + c)] for c in range(5)]
    whole = mean_of_sentences(Known(), lists)  # type: ignore[arg-type]
    monkeypatch.setattr("toolkit.methods.descriptions.texts.SENTENCES", 4)
    torch.testing.assert_close(mean_of_sentences(Known(), lists), whole)  # type: ignore[arg-type]
    torch.testing.assert_close(whole[1], torch.stack([direction(t) for t in lists[1]]).mean(0))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ensemble", {"templates": "8"}), ("dclip", {"wording": "best"}), ("cupl", {"names": "no"}), ("waffle", {"mode": "no"}),
        ("waffle", {"pairs": 0}), ("waffle", {"seed": -1}), ("fudd", {"k": 0}), ("fudd", {"m": True}), ("fudd", {"average": "sum"}),
        ("dclip", {"templates": "no slot"}), ("cupl", {"temperature": 0}),
    ],
)  # fmt: skip
def test_impossible_options(method: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_method(method, options)
