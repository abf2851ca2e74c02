"""The page of a VQA run: scorers, types, answers from which one learns, what a method changed, maps against the truth."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.attention_scores import attention_lines, attention_scores, point_at
from evals.bazaar import evidence_mask
from evals.records import compare_runs, read_run
from evals.report import write_overview, write_report
from evals.report.answer_page import disagreement, spread
from evals.report.answer_view import AnswerView, Asked
from evals.tasks import get_task
from evals.tasks.vqa import VqaTask
from tests.unit.evals.asked import answering, fake_maps, make_run, make_task
from toolkit.types import Sample

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


def page_of(run: Path, **more: Any) -> str:
    return write_report(run, **more).read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("&nbsp;", " ").replace("\xa0", " ")


def pictures(task: VqaTask) -> Callable[[str], Image.Image]:
    sources = {sample.id: sample.image for sample in task.items}
    return lambda name: sources[name].load()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def scenes() -> VqaTask:
    task: VqaTask = get_task("bazaar/vqa", questions=60)
    return task


def test_the_page_names_every_scorer_with_its_version(tmp_path: Path) -> None:
    run = make_run(make_task(40), tmp_path / "run")
    said = words(page_of(run))
    results = json.loads((run / "results.json").read_text())
    value = results["metrics"]["vqa_normalised"]["value"]
    assert f"toy-llava scores {100 * value:.1f} % on toy/vqa" in said
    assert "40 questions about 40 images, scored by vqa_normalised@1" in said
    for name in ("vqa_normalised@1", "vqa_official@1"):
        assert name in said
    for kind, group in results["breakdown"]["question_type"].items():
        assert re.search(rf"{kind} {100 * group['vqa_normalised']['value']:.1f} %", said)


def test_the_answers_are_shown_with_question_people_and_scores(tmp_path: Path) -> None:
    task = make_task(40)
    page = page_of(make_run(task, tmp_path / "run"), images=pictures(task))
    said = words(page)
    assert "Wrong where people agree" in said
    assert "a lamp" in said
    assert "×7, something else ×3" in said
    assert page.count("data:image/webp") >= 8
    shown = re.findall(r"What of (\d+)\?", words(page))
    assert len(shown) == len(set(shown)), "each answer is shown once"


def test_answers_that_scorers_score_differently_come_first(tmp_path: Path) -> None:
    task = make_task(40, scorers=("vqa_official", "vqa_normalised"))
    for sample in task.items:
        sample.meta["answers"][:] = ["yes"] * 10  # type: ignore[index]

    def loud(samples: Any) -> Any:
        for prediction in answering(1.0)(samples):
            yield type(prediction)(prediction.id, {"answer": "Yes.", "tokens": [1]})

    said = words(page_of(make_run(task, tmp_path / "run", loud)))
    assert "Scored differently by different scorers" in said
    assert "vqa_official 0, vqa_normalised 1" in said


def test_failed_questions_are_listed_and_not_scored(tmp_path: Path) -> None:
    run = make_run(make_task(20), tmp_path / "run", answering(failing=["q003"]))
    said = words(page_of(run))
    assert "1 question has no answer and no score: a failure is not an empty answer" in said
    assert "q003: the picture is broken" in said


def test_a_split_without_public_answers_has_answers_and_no_scores(tmp_path: Path) -> None:
    said = words(page_of(make_run(make_task(20, answers=False), tmp_path / "run")))
    assert "toy-llava answered 20 questions about 20 images" in said
    assert "its server scores submission.json" in said
    assert "scores 0" not in said


def test_an_interrupted_run_has_a_page(tmp_path: Path) -> None:
    run = make_run(make_task(20), tmp_path / "run")
    (run / "results.json").unlink()
    assert "no score yet" in words(page_of(run))


def test_a_comparison_says_what_was_repaired_and_broken(tmp_path: Path) -> None:
    task = make_task(60)
    a = make_run(task, tmp_path / "a", answering(0.5))
    b = make_run(task, tmp_path / "b", answering(0.7, seed=1), method="contrastive-attention", config={"mode": "mask"})
    found = compare_runs(a, b)
    said = words(page_of(b, compare=[a], images=pictures(task)))
    assert "Compared with plain" in said
    assert f"{found['repaired']} answers repaired, {found['broken']} broken" in said
    assert f"Repaired: wrong with plain, right with contrastive-attention, mask ({found['repaired']} in all)" in said
    assert re.search(r"plain: a lamp contrastive-attention, mask: (yes|no|red|green|blue|grey)", said)
    assert re.search(r"plain: (yes|no|red|green|blue|grey) contrastive-attention, mask: a lamp", said)


def test_maps_are_drawn_and_compared_with_the_pixels_that_show_the_answer(scenes: VqaTask, tmp_path: Path) -> None:
    a = make_run(scenes, tmp_path / "a", answering(0.5))
    b = make_run(scenes, tmp_path / "b", answering(0.6, seed=1, decide=fake_maps), method="contrastive-attention", config={"mode": "mask"})
    page = page_of(b, compare=[a], images=pictures(scenes))
    said = words(page)
    assert "early layer 1" in said
    assert "3 of 36 masked" in said
    found = attention_scores(read_run(b).samples)
    assert found is not None
    assert f"On {found['n']} questions whose pixels are known" in said
    for name in ("early", "late", "contrast"):
        assert f"{100 * found['maps'][name]['share']['value']:.1f} %" in said
    assert "No map puts more on the pixels" in said, "these maps are random"
    assert "Does it look at the right pixels?" not in words(page_of(a))
    assert attention_lines(a) == []
    assert "an even map" in attention_lines(b)[0]


def test_the_share_on_the_right_pixels_is_that_of_brute_force(scenes: VqaTask, tmp_path: Path) -> None:
    run = make_run(scenes, tmp_path / "run", answering(decide=lambda sample: fake_maps(sample, 12)))
    checked = 0
    for record in read_run(run).samples:
        assert record.meta is not None
        assert record.prediction is not None
        mask, scored = evidence_mask(record.meta["evidence"], 96), point_at(record)
        assert (mask is None) == (scored is None)
        if mask is None or scored is None:
            continue
        for name, pointed in scored.maps.items():
            heat = np.kron(np.array(record.prediction["decision"]["maps"][0][name]).reshape(12, 12), np.ones((8, 8)))
            assert pointed.share == pytest.approx((heat * mask).sum() / heat.sum())
            assert pointed.area == pytest.approx(mask.mean())
        checked += 1
    assert checked > 30


def test_a_map_that_is_the_truth_is_found_to_look_there(scenes: VqaTask, tmp_path: Path) -> None:
    def knowing(sample: Sample) -> dict[str, Any]:
        decision = fake_maps(sample, 12)
        mask = evidence_mask(sample.meta["evidence"], 96)
        if mask is not None:
            decision["maps"][0]["late"] = mask.reshape(12, 8, 12, 8).mean(axis=(1, 3)).ravel().tolist()
        return decision

    run = make_run(scenes, tmp_path / "run", answering(decide=knowing), method="contrastive-attention")
    found = attention_scores(read_run(run).samples)
    assert found is not None
    late = found["maps"]["late"]
    assert late["hit"]["value"] > 0.9
    assert late["share"]["ci95"][0] > 2 * late["uniform"]
    assert "Late layer: " in words(page_of(run))


def test_an_overview_holds_both_kinds_of_runs_and_says_what_is_missing(
    make_run: Callable[..., Path], scenes: VqaTask, tmp_path: Path
) -> None:
    from tests.unit.evals.asked import make_run as ask

    classes = make_run("classes")
    a, b = ask(scenes, tmp_path / "a", answering(0.5)), ask(scenes, tmp_path / "b", answering(0.6, seed=1), method="vcd")
    out = write_overview([classes, a, b], tmp_path / "all.html", title="All", comparisons=[(a, b)], notes=[f"vicrop was not run: {EVIL}"])
    said = words(out.read_text())
    assert "60 questions" in said
    assert "200 images" in said
    assert "Bazaar VQA: plain and vcd" in said
    assert "vicrop was not run" in said
    assert "<script>alert" not in out.read_text()


def test_nothing_that_a_model_or_a_data_set_says_acts_in_the_page(tmp_path: Path) -> None:
    task = make_task(12)
    for sample in task.items:
        sample.meta["answers"][:] = [EVIL] * 10  # type: ignore[index]
        sample.meta.update(question=EVIL, question_type=EVIL)  # type: ignore[attr-defined]
    run = make_run(task, tmp_path / "run", answering(decide=lambda _: {"maps": "none", "mode": EVIL}))
    page = page_of(run, compare=[make_run(task, tmp_path / "b", answering(0.2, seed=2))])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_a_picture_that_is_gone_costs_only_itself(tmp_path: Path) -> None:
    task = make_task(12)

    def gone(name: str) -> Image.Image:
        raise OSError("the disk is gone")

    run = make_run(task, tmp_path / "run", answering(decide=fake_maps))
    assert "no image: q000" in words(page_of(run, images=gone))


def row(name: str, kind: str, **scores: float) -> Asked:
    return Asked(name, "?", (("a", 10),), "a", scores, {}, (kind,), None)


def test_examples_are_spread_over_types() -> None:
    rows = [row("1", "x"), row("2", "x"), row("3", "x"), row("4", "y")]
    assert [each.id for each in spread(rows, 3)] == ["1", "4", "2"]
    assert spread(rows, 0) == []
    assert disagreement(row("1", "x", a=1.0, b=0.3)) == pytest.approx(0.7)
    assert disagreement(row("1", "x")) == 0.0


def test_a_view_of_a_folder_with_holes(tmp_path: Path) -> None:
    """Records of another version may lack meta; the page then says less and does not fail."""
    run = make_run(make_task(6), tmp_path / "run")
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    (run / "samples.jsonl").write_text("".join(json.dumps({**line, "meta": None}) + "\n" for line in lines))
    view = AnswerView.of(read_run(run))
    assert view.asked[0].question == ""
    assert "(no question on file)" in words(page_of(run))
