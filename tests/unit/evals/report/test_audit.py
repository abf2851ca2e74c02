"""The page of an audit: its words follow the verdict, its figure the numbers, and nothing that users wrote can run in it."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evals.report.audit import HEADLINES, audit_html, lede, split_bar, write_audit_report
from toolkit.errors import DataNotFound
from toolkit.methods.descriptions.verdict import VERDICTS


def arm(name: str, number: str, accuracies: list[float], w: list[float] | None = None) -> dict[str, Any]:
    mean = sum(accuracies) / len(accuracies)
    return {
        "name": name, "number": number, "title": f"Title of {name}", "isolates": "something", "draws": 1, "seeds": len(accuracies),
        "accuracy": mean, "sd": None, "mean_per_class": mean, "accuracies": [accuracies],
        "gain": {"value": mean - 0.4, "ci": [mean - 0.42, mean - 0.38]}, "repaired": 50.0, "broken": 20.0, "repair_rate": 0.1,
        "break_rate": 0.1, "p": None, "rank_p": None, "w": w, "oracle": 0.5, "optimism": 0.004 if w else None, "at_zero": None,
        "fallback": 0.01 if name == "selected" else None, "short": 0.02 if name == "selected" else None,
    }  # fmt: skip


def effect(value: float, half: float = 0.01, holm: float | None = 0.0002) -> dict[str, Any]:
    return {"value": value, "ci": [value - half, value + half], "p": 0.0001, "p_holm": holm}


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "schema": 1,
        "verdict": {"name": "semantic", "reason": "at least half of the gain is gone"},
        "n": 3000, "classes": 10, "texts": 80, "leaks": 0, "draws": 1, "support": [160],
        "options": {"seeds": 3, "w_cls": "loo", "selection": {"k": 3, "m": 5}},
        "declared": {"primary": ["gain (G)", "lead (E)"], "primary_correction": "Holm over these two, level 0.05"},
        "gain": effect(0.09), "meaning": {**effect(0.07), "share": 0.78, "beaten": 1.0}, "fewshot": effect(0.02, holm=None),
        "clean": None, "null": {"value": -0.001, "ci": [-0.004, 0.002], "p": 0.7}, "overlap": 0,
        "resolution": {"changed": 0.1, "half_width": 0.011, "half_width_meaning": 0.01, "delta": 0.01, "resolved": True},
        "vision": {"ncm_local": effect(0.03)}, "flags": ["vision dominates"],
        "arms": [
            arm("caption", "0", [0.40]), arm("selected", "2", [0.49], [0.5]), arm("random_characters", "3a", [0.41, 0.42, 0.43], [1, 2, 3]),
            arm("null", "5", [0.399, 0.398, 0.4], [9, 9, 9]), arm("ncm_local", "6", [0.52]),
        ],
        "recall_at_k": 0.8, "floor": 0.2667, "lift": {"share": 0.4, "expected": 0.1, "lift": 4.0, "p": 0.0001, "texts": 900},
        "misplaced": [{"class": "river", "text": "a mode dial", "rank": 9, "z": -2.0}],
        "lint": {"leaks": 0, "rules": [["L7", 6]]},
        "run": {"task": "eurosat", "model": "pocket-clip", "pool": "task", "seconds": 61.0},
    }  # fmt: skip


def test_the_page_says_what_is_left_if_images_resemble_each_other(result: dict[str, Any]) -> None:
    assert "Shuffled" not in audit_html(result)  # an audit from before there was the test
    result["declared"]["gain_also"] = "the rank of G among 199 shufflings of the labels, p below 0.05"
    result["gain"] |= {
        "permuted": {"p": 0.01, "permutations": 199, "mean": -0.012, "span": [-0.05, 0.02], "what": "labels"}, "ci_classes": [0.03, 0.15]
    }  # fmt: skip
    result["meaning"]["ci_classes"] = [0.02, 0.12]
    page = audit_html(result)
    assert "For a gain also the rank of G among 199 shufflings" in page
    assert "Shuffled labels" in page
    assert "the gain is \u22121.2 points on average, \u22125.0 to +2.0" in page
    assert "p = 0.01, which holds" in page
    assert "the gain is +3.0 to +15.0, that of meaning +2.0 to +12.0" in page
    result["gain"]["permuted"]["what"] = "lists"
    assert "With the classes&#39; lists shuffled" in audit_html(result)


def test_every_verdict_has_a_headline() -> None:
    assert set(HEADLINES) == set(VERDICTS)


@pytest.mark.parametrize("name", HEADLINES)
def test_the_headline_is_the_verdict(result: dict[str, Any], name: str) -> None:
    result["verdict"]["name"] = name
    page = audit_html(result)
    assert HEADLINES[name] in page
    assert f"Verdict: {name}" in page


def test_the_numbers_are_those_of_the_result(result: dict[str, Any]) -> None:
    page = audit_html(result)
    assert lede(result) in page.replace("&#39;", "'")
    assert "chosen by 160 labelled images change the accuracy of the class name by +9.0 points" in page
    assert "What is left for meaning: +7.0 points, 95\u00a0% interval +6.0 to +8.0." in page
    assert [float(v) for v in re.findall(r'<data class="number" value="([^"]+)"', page)][:3] == [0.09, 0.02, -0.001]
    assert "40.0 % of the selected texts were written for the class" in page.replace("\u00a0", " ")
    assert "a mode dial" in page
    assert page.count("<circle") == 6 + 1  # a dot a control seed, and one in the key


def test_the_bar_splits_where_random_letters_end() -> None:
    bar = split_bar(0.09, (0.08, 0.1), [], 0.02, (0.0, 0.1), [], "real")
    luck = re.search(r'width="([\d.]+)%"[^>]*class="both"', bar)
    sense = re.search(r'x="([\d.]+)%" width="([\d.]+)%"[^>]*class="only-b"', bar)
    assert luck is not None
    assert sense is not None
    assert (float(luck[1]), float(sense[1]), float(sense[2])) == (20.0, 20.0, 70.0)
    assert "only-b" not in split_bar(0.02, (0.0, 0.04), [], 0.05, (0.0, 0.1), [], "real")  # random letters reach all of it
    lost = split_bar(-0.03, (-0.04, -0.02), [], 0.02, (-0.1, 0.1), [], "real")
    assert "only-b" not in lost
    assert re.search(r'x="35%" width="15%"[^>]*class="both"', lost)


def test_what_users_wrote_is_text(result: dict[str, Any]) -> None:
    nasty = "<script>alert(1)</script>"
    result["misplaced"][0] |= {"text": nasty, "class": nasty}
    result["run"] |= {"pool": nasty, "model": nasty, "task": nasty}
    result["verdict"]["reason"] = nasty
    page = audit_html(result)
    assert nasty not in page
    assert page.count("<script>") == 1


def test_without_support_leaks_or_null_the_page_stands(result: dict[str, Any]) -> None:
    bare = copy.deepcopy(result)
    bare |= {"support": [], "null": None, "flags": [], "vision": {}, "lift": None, "misplaced": [], "lint": None, "run": {}}
    page = audit_html(bare)
    assert "chosen by class names alone" in page
    assert 'id="pool"' not in page
    leaky = result | {"leaks": 2, "clean": {"gain": effect(0.05), "meaning": effect(0.01), "beaten": 0.8}}
    assert "2 texts name a class; the audit was repeated without them." in audit_html(leaky)
    assert "Meaning without leaks" in audit_html(leaky)


def test_it_is_written_beside_the_audit(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(result))
    assert write_audit_report(tmp_path) == tmp_path / "report.html"
    with pytest.raises(DataNotFound):
        write_audit_report(tmp_path / "elsewhere")
