"""The task ``bazaar/vqa`` and the scores of maps against its pixels."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from evals.bazaar import evidence_mask, vqa_split
from evals.bazaar.vqa_words import TYPES
from evals.tasks import get_task, list_tasks
from evals.tasks.bazaar_vqa import pointing
from toolkit.errors import UsageError
from toolkit.types import Prediction


@pytest.fixture(scope="module")
def task() -> object:
    return get_task("bazaar/vqa", questions=100)


def test_it_is_a_vqa_task_of_balanced_questions(task) -> None:
    assert "bazaar/vqa" in list_tasks()
    assert task.family == "vqa"
    assert task.name == "bazaar/vqa"
    assert len(task) == 100
    samples = list(task.samples())
    assert Counter(sample.meta["question_type"] for sample in samples) == dict.fromkeys(TYPES, 10)
    assert {sample.meta["answer_type"] for sample in samples} == {"yes/no", "number", "other"}
    assert all(len(sample.meta["answers"]) == 10 for sample in samples)
    assert all(
        sample.meta["prompt"] == f"{sample.meta['question']}\nAnswer the question using a single word or phrase." for sample in samples
    )
    assert [int(sample.id) for sample in samples] == [each.id for each in vqa_split(0, 100)]
    assert np.asarray(pickle.loads(pickle.dumps(samples[0].image)).load()).shape == (96, 96, 3)


def test_the_truth_scores_nearly_one_and_nonsense_nothing(task) -> None:
    samples = list(task.samples())
    truth = [task.score(sample, Prediction(sample.id, output={"answer": sample.meta["truth"]})) for sample in samples]
    assert np.mean([scores["vqa_normalised"] for scores in truth]) > 0.98
    assert task.score(samples[0], Prediction("0", output={"answer": "a zebra"})) == {"vqa_normalised": 0.0, "vqa_official": 0.0}


def test_its_fingerprint_knows_pictures_questions_and_world(task) -> None:
    same = get_task("bazaar/vqa", questions=100)
    others = [get_task("bazaar/vqa", questions=100, **options) for options in ({"size": 64}, {"seed": 5}, {"split": "train"})]
    others.append(get_task("bazaar/vqa", questions=110))
    assert same.data_fingerprint() == task.data_fingerprint()
    assert len({other.data_fingerprint() for other in [task, *others]}) == 5
    assert others[2].name == "bazaar/vqa:train"
    assert others[2].data == "bazaar (train, marketplace 1, 96 px)"


def test_options_of_prompt_and_scorers() -> None:
    task = get_task("bazaar/vqa:test", questions=20, prompt="bare", scorers="vqa_evalai, vqa_normalised", max_new_tokens=4)
    assert task.metrics == ("vqa_evalai", "vqa_normalised")
    assert task.max_new_tokens == 4
    assert all(sample.meta["prompt"] == sample.meta["question"] for sample in task.samples())


@pytest.mark.parametrize(
    "options",
    [
        {"split": "val"},
        {"size": 20},
        {"size": "96"},
        {"questions": 1},
        {"seed": -2},
        {"seed": True},
        {"prompt": "none"},
        {"colour": "red"},
        {"data": "here"},
        {"classnames": ["a"]},
    ],
)
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        get_task("bazaar/vqa", **options)


def test_two_splits_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="another one"):
        get_task("bazaar/vqa:train", split="test")


def test_maps_are_scored_against_the_pixels_of_the_answer(task) -> None:
    scored = 0
    for sample in list(task.samples())[:40]:
        evidence = sample.meta["evidence"]
        mask = evidence_mask(evidence, 96)
        if mask is None:
            assert pointing(evidence, np.ones((6, 6))) is None
            continue
        exact, flat, away = pointing(evidence, mask), pointing(evidence, np.ones((12, 12))), pointing(evidence, ~mask)
        assert (exact.share, exact.hit) == (1.0, 1.0)
        assert (away.share, away.hit) == (0.0, 0.0)
        assert flat.share == pytest.approx(mask.mean())
        assert flat.area == pytest.approx(exact.area)
        fine = pointing(evidence, np.ones((12, 12)), size=192)  # the masks of a larger picture cover nearly the same share of it
        assert fine.area == pytest.approx(flat.area, abs=0.03)
        scored += 1
    assert scored > 25
