"""Two runs of answers compared: against the definitions, by brute force, and all that can make them incomparable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from evals.records import SampleRecord, compare_runs, read_run
from tests.unit.evals.asked import answering, make_run, make_task
from toolkit.errors import UsageError
from toolkit.stats import clustered_bootstrap, holm, paired_bootstrap_values


def two_runs(tmp_path: Path, n: int = 60, **task: int) -> tuple[Path, Path]:
    asked = make_task(n, **task)
    return make_run(asked, tmp_path / "a", answering(0.5)), make_run(asked, tmp_path / "b", answering(0.7, seed=1), method="other")


def by_id(run: Path) -> dict[str, SampleRecord]:
    return {record.id: record for record in read_run(run).samples}


def score(record: SampleRecord, scorer: str = "vqa_normalised") -> float:
    assert record.scores is not None
    return record.scores[scorer]


def test_every_scorer_and_every_type_is_compared_by_its_definition(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path)
    found = compare_runs(a, b)
    first, second = by_id(a), by_id(b)
    assert list(found["scorers"]) == ["vqa_normalised", "vqa_official"]
    for name, row in found["scorers"].items():
        pairs = [(score(first[one], name), score(second[one], name)) for one in first]
        assert row["version"] == 1
        assert row["a"]["value"] == pytest.approx(np.mean([pair[0] for pair in pairs]))
        assert row["difference"]["value"] == pytest.approx(np.mean([pair[1] - pair[0] for pair in pairs]))
        assert row["repaired"] == sum(was < 0.5 <= now for was, now in pairs) > 0
        assert row["broken"] == sum(now < 0.5 <= was for was, now in pairs) > 0
        low, high = row["difference"]["ci95"]
        assert low < row["difference"]["value"] < high
        exact = binomtest(row["broken"], row["broken"] + row["repaired"], 0.5).pvalue
        assert row["mcnemar_p"] == pytest.approx(exact)
    assert found["primary"] == "vqa_normalised"
    assert found["difference"] == found["scorers"]["vqa_normalised"]["difference"]
    assert found["changed"] == sum(first[one].prediction["answer"] != second[one].prediction["answer"] for one in first)  # type: ignore[index]


def test_types_add_up_to_the_whole_and_their_p_values_are_adjusted(tmp_path: Path) -> None:
    found = compare_runs(*two_runs(tmp_path))
    types = found["breakdown"]["question_type"]
    assert set(types) == {"colour", "presence"}
    for key in ("n", "repaired", "broken"):
        assert sum(row[key] for row in types.values()) == {"n": found["n"]}.get(key, found.get(key))
    assert [row["mcnemar_p_holm"] for row in types.values()] == holm([row["mcnemar_p"] for row in types.values()])


def test_turning_the_runs_around_turns_the_sign_around(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path)
    forth, back = compare_runs(a, b), compare_runs(b, a)
    assert forth["difference"]["value"] == pytest.approx(-back["difference"]["value"])
    assert (forth["repaired"], forth["broken"]) == (back["broken"], back["repaired"])


def test_a_run_against_itself_has_no_difference(tmp_path: Path) -> None:
    a, _ = two_runs(tmp_path)
    found = compare_runs(a, a)
    assert (found["repaired"], found["broken"], found["changed"], found["mcnemar_p"]) == (0, 0, 0, 1.0)
    assert found["difference"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    assert found["notes"] == []


def test_questions_about_one_image_are_resampled_together(tmp_path: Path) -> None:
    found = compare_runs(*two_runs(tmp_path, per_image=3))
    assert (found["n"], found["images"]) == (60, 20)
    assert "60 questions are about 20 images" in found["notes"][0]


def test_failed_answers_are_left_out_and_said(tmp_path: Path) -> None:
    task = make_task(20)
    a = make_run(task, tmp_path / "a", answering(0.5, failing=["q001", "q002"]))
    b = make_run(task, tmp_path / "b", answering(0.7, failing=["q002", "q003"]))
    found = compare_runs(a, b)
    assert found["n"] == 17
    assert "the comparison uses the 17 that both answered" in found["notes"][0]


def test_what_else_differs_is_said(tmp_path: Path) -> None:
    task = make_task(20)
    a = make_run(task, tmp_path / "a", generation={"max_new_tokens": 16, "quantise": None})
    b = make_run(task, tmp_path / "b", generation={"max_new_tokens": 16, "quantise": 4})
    assert "settings of generation differ" in compare_runs(a, b)["notes"][0]


def test_a_scorer_of_one_run_alone_is_not_compared(tmp_path: Path) -> None:
    a = make_run(make_task(20, scorers=("vqa_normalised", "vqa_evalai")), tmp_path / "a")
    b = make_run(make_task(20), tmp_path / "b")
    found = compare_runs(a, b)
    assert list(found["scorers"]) == ["vqa_normalised"]
    assert "vqa_evalai, vqa_official" in found["notes"][-1]


def test_runs_without_a_common_scorer_are_refused(tmp_path: Path) -> None:
    a = make_run(make_task(20, scorers=("vqa_evalai",)), tmp_path / "a")
    b = make_run(make_task(20, scorers=("vqa_official",)), tmp_path / "b")
    with pytest.raises(UsageError, match="share no scorer: vqa_evalai@1 and vqa_official@1"):
        compare_runs(a, b)
    c, d = (make_run(make_task(20, answers=False), tmp_path / name) for name in "cd")
    with pytest.raises(UsageError, match="no scorer and no scorer"):
        compare_runs(c, d)


def test_another_version_of_a_scorer_is_another_scorer(tmp_path: Path) -> None:
    a, b = two_runs(tmp_path)
    manifest = json.loads((b / "manifest.json").read_text())
    manifest["scorers"]["vqa_normalised"] = 2
    (b / "manifest.json").write_text(json.dumps(manifest))
    found = compare_runs(a, b)
    assert list(found["scorers"]) == ["vqa_official"]
    assert found["primary"] == "vqa_official"


def test_other_data_are_refused(tmp_path: Path) -> None:
    a, b = make_run(make_task(20), tmp_path / "a"), make_run(make_task(24), tmp_path / "b")
    with pytest.raises(UsageError, match="their data differ"):
        compare_runs(a, b)


def test_a_clustered_bootstrap_with_clusters_of_one_is_the_paired_bootstrap() -> None:
    gaps = np.random.default_rng(0).choice([-1.0, 0.0, 0.3, 1.0], 400)
    ours, usual = clustered_bootstrap(gaps, range(400)), paired_bootstrap_values(np.zeros(400), gaps)
    assert ours.value == usual.value
    np.testing.assert_allclose(ours.ci, usual.ci, atol=0.01)  # two sets of 10,000 draws; the standard error of an end is 0.001


def test_a_clustered_bootstrap_is_as_wide_as_the_clusters_are_alike() -> None:
    """Four copies of every value carry no more knowledge than one: the interval stays, that over samples would halve."""
    gaps = np.random.default_rng(1).normal(size=200).round(2)
    once, copied = clustered_bootstrap(gaps, range(200)), clustered_bootstrap(np.repeat(gaps, 4), np.repeat(np.arange(200), 4).tolist())
    np.testing.assert_allclose(copied.ci, once.ci, atol=1e-12)
    naive = paired_bootstrap_values(np.zeros(800), np.repeat(gaps, 4))
    assert naive.ci[1] - naive.ci[0] < 0.6 * (copied.ci[1] - copied.ci[0])


def test_a_clustered_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    """95 % intervals of 200 drawn sets, clusters of unequal size with a shared part: about 190 of them hold the mean of zero."""
    rng, hits = np.random.default_rng(2), 0
    for seed in range(200):
        sizes = rng.integers(1, 5, 60)
        shared = np.repeat(rng.normal(size=60), sizes)
        values = shared + rng.normal(size=sizes.sum())
        low, high = clustered_bootstrap(values, np.repeat(np.arange(60), sizes).tolist(), resamples=1000, seed=seed).ci
        hits += low <= 0.0 <= high
    assert 180 <= hits <= 198  # a percentile interval of 60 clusters covers a little less than 95 %


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], [1, 2])])
def test_a_clustered_bootstrap_needs_a_cluster_for_each_value(values: list[float], clusters: list[int]) -> None:
    with pytest.raises(ValueError, match="needs a cluster"):
        clustered_bootstrap(values, clusters)
