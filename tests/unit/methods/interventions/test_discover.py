"""Layer discovery: the rules by hand, the profiles against brute force, the study on a tiny model, stopped and restarted."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tests import tiny_mllm as tiny
from toolkit.attention import AttentionSession
from toolkit.errors import DataError, Refused, UsageError
from toolkit.files import atomic_write_json, read_json
from toolkit.images import ArrayImage, FileImage
from toolkit.methods.interventions import contrastive_attention_layers
from toolkit.methods.interventions.base import question_of
from toolkit.methods.interventions.contrastive_attention import ContrastiveAttention
from toolkit.methods.interventions.contrastive_attention_layers import read_calibration, shipped_calibrations
from toolkit.methods.interventions.discover import CALIBRATION, RECORDS, Masking, StudyOptions, discover, distances
from toolkit.methods.interventions.discover_rules import Rules, choose, drops, parts
from toolkit.models.mllm import Mllm
from toolkit.models.registry import load_answerer
from toolkit.patching import patch
from toolkit.stats import holm, sign_flip_test
from toolkit.types import Sample

ABOUT: dict[str, Any] = {"task": "toy", "data_fingerprint": "d", "scorer": {"name": "same", "version": 1}, "versions": {"torch": "2"}}
LAYERS = 6


def row(layer: int, drop: float, p: float) -> dict[str, Any]:
    return {"layer": layer, "drop": drop, "p_holm": p}


# --- Rules


def test_parts_of_the_depth() -> None:
    assert parts(32, Rules()) == (range(19), range(21, 32), range(24, 32))
    for n in range(4, 100):
        early, late, review = parts(n, Rules())
        assert early.stop <= late.start < review.start  # max(C) < k, and before every r there is a k
        assert late.stop == review.stop == n


def test_layers_of_a_profile_with_fusion_and_review() -> None:
    """16 layers: the first 9 are early, 10 to 15 late, 12 to 15 review."""
    rows = [row(layer, 0.0, 1.0) for layer in range(16)]
    rows[1], rows[4], rows[8] = row(1, 0.2, 0.001), row(4, 0.1, 0.049), row(8, 0.3, 0.0)
    rows[5] = row(5, 0.1, 0.05)  # on the threshold: not below it
    rows[6] = row(6, -0.2, 0.001)  # a gain is no drop
    rows[10] = row(10, 0.4, 0.0)  # neither early nor review
    rows[13], rows[14] = row(13, 0.05, 0.01), row(14, 0.15, 0.01)
    near = [0.5] * 15
    near[10 - 1], near[12 - 1], near[15 - 1], near[3] = 0.3, 0.2, 0.01, 0.001
    chosen = choose(rows, near)
    assert chosen.candidates == (1, 4, 8)
    assert chosen.review == 14  # the largest of the two
    assert chosen.late == 12  # 15 is nearer to its neighbour, but behind r; 4 is not late
    assert (chosen.status, chosen.reasons) == ("ok", ())


def test_without_a_review_layer_all_late_layers_count() -> None:
    rows = [row(layer, 0.1, 0.01 if layer < 3 else 0.2) for layer in range(16)]
    near = [0.5] * 15
    near[15 - 1] = 0.1
    chosen = choose(rows, near)
    assert (chosen.candidates, chosen.late, chosen.review, chosen.status) == ((0, 1, 2), 15, None, "ok")
    assert "no review layer" in chosen.reasons[0]


def test_too_few_significant_layers_are_inconclusive() -> None:
    rows = [row(layer, 0.1, 0.5) for layer in range(8)]
    chosen = choose(rows, [0.1] * 7)
    assert (chosen.candidates, chosen.status) == ((), "inconclusive")
    assert chosen.late == 5  # of equal ones the first
    one = [row(0, 0.1, 0.01), *rows[1:]]
    assert choose(one, [0.1] * 7).status == "ok"
    assert choose(one, [0.1] * 7, Rules(min_candidates=2)).status == "inconclusive"
    assert choose([row(0, 0.1, 0.01)], []).late is None


def test_equal_drops_choose_the_first_layer() -> None:
    rows = [row(layer, 0.1, 0.01) for layer in range(16)]
    assert choose(rows, [0.1] * 15)[:3] == (tuple(range(9)), 10, 12)


def test_drops_are_paired_and_corrected_by_hand() -> None:
    """20 questions about 20 images, all right. Layer 0 loses 8 of them, layer 1 loses one, layer 2 none; one answer of layer 2 failed."""
    names = [f"q{number}" for number in range(20)]
    base = dict.fromkeys(names, 1.0)
    masked = {0: base | dict.fromkeys(names[:8], 0.0), 1: base | {"q3": 0.0}, 2: dict.fromkeys(names[1:], 1.0)}
    images = {name: name for name in names}
    rows = drops(base, masked, images)
    assert [entry["drop"] for entry in rows] == [0.4, 0.05, 0.0]
    assert [entry["n"] for entry in rows] == [20, 20, 19]
    assert [entry["p"] for entry in rows] == [0.00390625, 0.5, 1.0]
    assert [entry["p_holm"] for entry in rows] == [0.01171875, 1.0, 1.0]
    low, high = rows[0]["ci95"]
    assert 0.15 < low < 0.25
    assert 0.55 < high < 0.65
    together = drops(base, masked, dict.fromkeys(names[:8], "one image") | dict.fromkeys(names[8:], "another"))
    assert together[0]["p"] == 0.5  # all eight are about one image: one coin


def test_the_sign_flip_test_is_the_exact_one_sided_test_of_mcnemar() -> None:
    for lost, won in ((5, 0), (7, 2), (3, 3), (1, 4)):
        gaps = [1.0] * lost + [-1.0] * won + [0.0] * 5
        exact = binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
        assert sign_flip_test(gaps, range(len(gaps))) == pytest.approx(exact, abs=1e-12)
    gaps = [1.0] * 20 + [-1.0] * 10
    exact = binomtest(20, 30, 0.5, alternative="greater").pvalue
    assert sign_flip_test(gaps, range(30)) == pytest.approx(exact, abs=4 * math.sqrt(exact / 10_000))  # four standard errors of 10,000
    assert sign_flip_test([0.0] * 9, range(9)) == 1.0
    assert holm([0.00390625, 0.5, 1.0]) == [0.01171875, 1.0, 1.0]


def test_distances_equal_the_definition() -> None:
    attention = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    p = (attention / attention.sum(1, keepdim=True)).double().numpy()
    expected = [math.sqrt(np.square(np.sqrt(p[i]) - np.sqrt(p[j])).sum() / 2) for i in range(5) for j in range(i + 1, 5)]
    assert distances(attention) == pytest.approx(expected, abs=1e-6)
    assert distances(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])) == [1.0, 0.5411961, 0.5411961]


# --- The study


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Mllm:
    answerer: Any = load_answerer(f"local:{tiny.write_llava(tmp_path_factory.mktemp('models') / 'llava')}", device="cpu")
    return answerer  # type: ignore[no-any-return]


def picture(seed: int) -> ArrayImage:
    return ArrayImage(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8), f"picture {seed}")


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    words = ["what colour is the thing", "how many are there"]
    return [Sample(f"q{number}", picture(number), None, {"prompt": words[number % 2]}) for number in range(10)]


@pytest.fixture(scope="module")
def same(llava: Mllm, samples: list[Sample]) -> Callable[[Sample, str], float]:
    """The unmasked model is always right: a drop is what masking changes."""
    answers = llava.answer([question_of(sample) for sample in samples], max_new_tokens=3)
    known = {sample.id: answer.text for sample, answer in zip(samples, answers, strict=True)}
    return lambda sample, answer: float(answer == known[sample.id])


OPTIONS = StudyOptions(max_new_tokens=3, batch_size=2)


@pytest.fixture(scope="module")
def studied(llava: Mllm, samples: list[Sample], same: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studied")
    discover(llava, samples, same, folder, OPTIONS, about=ABOUT)
    return folder


def test_the_file_holds_layers_profiles_and_provenance(studied: Path, llava: Mllm, samples: list[Sample]) -> None:
    found = read_calibration(studied / CALIBRATION)
    assert (found["n_layers"], found["layer_base"], found["n"], found["n_failed"]) == (LAYERS, 0, 10, 0)
    assert found["fingerprint"] == llava.fingerprint
    assert found["scorer"] == {"name": "same", "version": 1}
    assert found["dtype"] == "float32"
    assert found["masking"]["base"]["score"] == 1.0
    rows = found["masking"]["variants"]["block_at"]
    assert [entry["layer"] for entry in rows] == list(range(LAYERS))
    assert all(entry["drop"] == pytest.approx(1 - entry["score"]) for entry in rows)
    near = [entry["mean"] for entry in found["hellinger"]["neighbours"]]
    assert (tuple(found["C"]), found["k"], found["r"], found["status"]) == choose(rows, near)[:4]
    matrix = np.array(found["hellinger"]["matrix"])
    assert np.allclose(np.diag(matrix, 1), near)
    assert [entry["mean"] for entry in found["hellinger"]["to_late"]] == pytest.approx(matrix[: found["k"], found["k"]])
    lines = [json.loads(line) for line in (studied / RECORDS).read_text().splitlines()]
    assert len(lines) == len(samples) * (1 + LAYERS)


def test_planted_layers_are_found(samples: list[Sample], tmp_path: Path) -> None:
    """Attention moves nothing in any layer but 1 and 5: these fuse and review, and blocking the others changes not one answer."""
    answerer: Any = load_answerer(f"local:{tiny.write_llava(tmp_path / 'llava')}", device="cpu")
    with torch.no_grad():
        for number, layer in enumerate(answerer.module.get_decoder().layers):
            layer.self_attn.o_proj.weight.mul_({1: 1.0, 5: 8.0}.get(number, 0.0))  # what the last layer reads reaches one token only
    answers = answerer.answer([question_of(sample) for sample in samples], max_new_tokens=3)
    known = {sample.id: answer.text for sample, answer in zip(samples, answers, strict=True)}
    found = discover(answerer, samples, lambda sample, text: float(text == known[sample.id]), tmp_path / "out", OPTIONS, about=ABOUT)
    assert (found["C"], found["k"], found["r"], found["status"]) == ([1], 4, 5, "ok")
    drop = [entry["drop"] for entry in found["masking"]["variants"]["block_at"]]
    assert [drop[layer] for layer in (0, 2, 3, 4)] == [0.0] * 4


def test_a_calibration_that_comes_with_the_library_is_chosen_by_name(
    studied: Path, llava: Mllm, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_write_json(tmp_path / "tiny.json", read_json(studied / CALIBRATION) | {"C": [0, 1], "k": 3, "r": 5, "status": "ok"})
    monkeypatch.setattr(contrastive_attention_layers, "CALIBRATIONS", tmp_path)
    (answer,) = ContrastiveAttention(candidates="tiny").answer(llava, [question_of(samples[0])], max_new_tokens=1)
    layers = answer.info["decision"]["layers"]
    assert (layers["candidates"], layers["late"], layers["review"], layers["from"]) == ([0, 1], 3, 5, "calibration tiny.json")
    with pytest.raises(UsageError, match=r"nor one of preset, .*, tiny"):
        ContrastiveAttention(candidates="tyni").answer(llava, [question_of(samples[0])], max_new_tokens=1)


def test_distances_are_those_that_contrastive_attention_decides_by(studied: Path, llava: Mllm, samples: list[Sample]) -> None:
    maps = ContrastiveAttention(mode="maps", layer_base=0, candidates=[0, 2], late=4)
    answers = maps.answer(llava, [question_of(sample) for sample in samples[:3]], max_new_tokens=1)
    lines = {line["id"]: line for line in map(json.loads, (studied / RECORDS).read_text().splitlines()) if line["condition"] == "base"}
    pairs = [(i, j) for i in range(LAYERS) for j in range(i + 1, LAYERS)]
    for sample, answer in zip(samples, answers, strict=False):
        stored = dict(zip(pairs, lines[sample.id]["hellinger"], strict=True))
        # float32 there, float64 here
        assert answer.info["decision"]["hellinger"] == pytest.approx({"0": stored[0, 4], "2": stored[2, 4]}, abs=1e-6)


def test_a_calibration_is_used_by_the_method_and_refused_for_other_weights(
    studied: Path, llava: Mllm, samples: list[Sample], tmp_path: Path
) -> None:
    found = read_json(studied / CALIBRATION)
    questions = [question_of(samples[0])]
    usable = atomic_write_json(tmp_path / "usable.json", found | {"C": [0, 1], "k": 4, "r": 5, "status": "ok"})
    (answer,) = ContrastiveAttention(candidates=usable).answer(llava, questions, max_new_tokens=1)
    assert answer.info["decision"]["layers"]["candidates"] == [0, 1]
    assert answer.info["decision"]["layers"]["review"] == 5
    for changes, error, words in (
        ({"fingerprint": "0" * 64}, DataError, "other weights"),
        ({"n_layers": 7}, DataError, "7 layers"),
        ({"r": None}, Refused, "no review layer"),
        ({"status": "inconclusive"}, Refused, "inconclusive"),
    ):
        file = atomic_write_json(tmp_path / "changed.json", {**read_json(usable), **changes})
        with pytest.raises(error, match=words):
            ContrastiveAttention(candidates=file).answer(llava, questions, max_new_tokens=1)


def test_a_stopped_study_goes_on_and_writes_the_same_file(
    studied: Path, llava: Mllm, samples: list[Sample], same: Any, tmp_path: Path
) -> None:
    calls = 0

    def stopping(sample: Sample, answer: str) -> float:
        nonlocal calls
        calls += 1
        if calls == 21:
            raise KeyboardInterrupt
        return float(same(sample, answer))

    with pytest.raises(KeyboardInterrupt):
        discover(llava, samples, stopping, tmp_path, OPTIONS, about=ABOUT)
    assert not (tmp_path / CALIBRATION).exists()
    kept = (tmp_path / RECORDS).read_bytes()
    (tmp_path / RECORDS).write_bytes(kept[: len(kept) - 40])  # torn in the middle of a line, as by a kill
    asked: list[str] = []

    def counting(sample: Sample, answer: str) -> float:
        asked.append(sample.id)
        return float(same(sample, answer))

    discover(llava, samples, counting, tmp_path, OPTIONS, about=ABOUT)
    assert (tmp_path / CALIBRATION).read_bytes() == (studied / CALIBRATION).read_bytes()
    assert len(asked) == len(samples) * (1 + LAYERS) - 8  # two groups of 8 were whole, and one of them lost a line
    discover(llava, samples, lambda *_: pytest.fail("asked again"), tmp_path, OPTIONS, about=ABOUT)


def test_a_further_variant_goes_on_where_the_study_stopped(
    studied: Path, llava: Mllm, samples: list[Sample], same: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(studied, tmp_path / "more"))
    asked: list[str] = []

    def counting(sample: Sample, answer: str) -> float:
        asked.append(sample.id)
        return float(same(sample, answer))

    found = discover(llava, samples, counting, folder, OPTIONS._replace(variants=("zero_from",)), about=ABOUT)
    assert len(asked) == len(samples) * LAYERS
    before = read_json(studied / CALIBRATION)
    assert found["masking"]["variants"]["block_at"] == before["masking"]["variants"]["block_at"]
    assert [found[name] for name in ("C", "k", "r", "hellinger")] == [before[name] for name in ("C", "k", "r", "hellinger")]
    assert "zero_from" in found["masking"]["variants"]


def test_a_folder_of_another_study_is_refused(studied: Path, llava: Mllm, samples: list[Sample], same: Any) -> None:
    for about, words in ((ABOUT | {"task": "other"}, "task"), (ABOUT | {"scorer": {"name": "x", "version": 1}}, "scorer")):
        with pytest.raises(UsageError, match=f"another study; it differs in {words}"):
            discover(llava, samples, same, studied, OPTIONS, about=about)
    with pytest.raises(UsageError, match="samples"):
        discover(llava, samples[:4], same, studied, OPTIONS, about=ABOUT)
    with pytest.raises(UsageError, match="block_form"):
        discover(llava, samples, same, studied, OPTIONS._replace(variants=("block_form",)), about=ABOUT)


def test_a_broken_image_is_counted_and_left_out(llava: Mllm, samples: list[Sample], tmp_path: Path) -> None:
    broken = Sample("broken", FileImage(tmp_path / "missing.png"), None, {"prompt": "what"})
    seen: list[tuple[int, int, int]] = []
    options = OPTIONS._replace(variants=("zero_from", "block_from"), max_new_tokens=1)
    found = discover(
        llava, [broken, *samples[:3]], lambda *_: 0.0, tmp_path, options, about=ABOUT, progress=lambda *now: seen.append(now)
    )
    assert (found["n"], found["n_failed"], found["status"]) == (3, 1, "inconclusive")
    assert "no question right" in found["reasons"][-1]
    assert list(found["masking"]["variants"]) == ["block_at", "block_from", "zero_from"]
    assert seen[-1] == (4 * (1 + 3 * LAYERS), 4 * (1 + 3 * LAYERS), 1)
    with pytest.raises(DataError, match=r"missing\.png"):
        discover(llava, [broken], lambda *_: 1.0, tmp_path / "none", options, about=ABOUT)


@pytest.mark.parametrize("file", shipped_calibrations().values(), ids=lambda file: file.stem)
def test_shipped_calibrations_belong_to_the_models_that_they_are_named_after(file: Path) -> None:
    """On the CPU in float32, where they were made."""
    found = read_calibration(file)
    assert found["dtype"] == "float32"
    answerer = load_answerer(file.stem, device="cpu")
    assert (found["fingerprint"], found["model"]) == (answerer.fingerprint, file.stem)
    rows, near = found["masking"]["variants"]["block_at"], [entry["mean"] for entry in found["hellinger"]["neighbours"]]
    assert (tuple(found["C"]), found["k"], found["r"], found["status"]) == choose(rows, near)[:4]


@pytest.mark.parametrize(("variant", "hidden"), [("block_at", {3}), ("block_from", {3, 4, 5}), ("zero_from", set())])
def test_masking_hides_the_image_where_it_says(variant: str, hidden: set[int]) -> None:
    model = tiny.build("llava")
    inputs = tiny.inputs("llava", model, batch=2, padding="left")
    with torch.no_grad():
        plain = model(**inputs).logits
        with patch(model, Masking(variant, 3)), AttentionSession(model) as session:
            rows = session.read(range(LAYERS))
            changed = model(**inputs).logits
            mask = session.prefill.image_mask  # type: ignore[union-attr]
        assert torch.equal(model(**inputs).logits, plain)
    mass = {layer: float((rows[layer] * mask[:, None]).sum(-1).max()) for layer in range(LAYERS)}
    assert {layer for layer, value in mass.items() if value == 0} == hidden
    assert not torch.equal(changed, plain)


def test_models_without_self_attention_in_a_layer_are_refused() -> None:
    model = tiny.build("mllama")
    with pytest.raises(Refused, match="cross-attention"):
        Masking("block_at", 3).attach(model)
