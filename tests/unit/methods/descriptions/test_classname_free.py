"""The method in the table: what it hands to the harness, on a tiny real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from toolkit.errors import DataError, UsageError
from toolkit.images import as_source
from toolkit.methods import build_method
from toolkit.methods.descriptions.classname_free import ClassnameFreeConfig
from toolkit.models import load_encoder
from toolkit.types import ClassifyProblem, Sample

CLASSES = ("dog", "cat", "phone", "shoe")
POOL = {"cat": ["it is black"], "dog": ["it is red", "the bag"], "shoe": ["a laces"], "phone": ["a screen", "it is black"]}


def picture(seed: int) -> Any:
    return as_source(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_encoder(f"local:{tiny.tiny_hf_clip(tmp_path_factory.mktemp('clip'))}", cache=False)


def problem(shots: int, descriptions: Any = POOL) -> ClassifyProblem:
    support = tuple(Sample(f"s{number}", picture(50 + number), number % 4) for number in range(4 * shots))
    return ClassifyProblem(CLASSES, ("a photo of a {}.", "the {}"), descriptions, support)


SAMPLES = [Sample(f"t{number}", picture(number)) for number in range(6)]


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_it_predicts_with_any_support(encoder: Any, shots: int) -> None:
    method = build_method("classname-free", {"k": 2})
    model = method.estimator(encoder, problem(shots))
    outputs = [prediction.output for prediction in method.predictor(encoder, problem(shots))(SAMPLES)]
    expected = model.predict([sample.image for sample in SAMPLES]).tolist()
    assert [output["label"] for output in outputs if output] == expected
    for output in outputs:
        assert output is not None
        assert output["w_origin"] == ("no support" if shots == 0 else "loo")
        assert isinstance(output["fallback"], bool)
        assert [p for _, p in output["top"][2:]] == [0.0, 0.0]


def test_a_huge_weight_is_zero_shot(encoder: Any) -> None:
    options = {"w_cls": 1e7, "caption_templates": ["a photo of a {}."]}
    ours = build_method("classname-free", options).predictor(encoder, problem(2))(SAMPLES)
    theirs = build_method("zero-shot", {"templates": "single"}).predictor(encoder, problem(0))(SAMPLES)
    assert [one.output["label"] for one in ours] == [other.output["label"] for other in theirs]  # type: ignore[index]


def test_the_pool_can_come_from_a_file(encoder: Any, tmp_path: Path) -> None:
    path = tmp_path / "pool.json"
    path.write_text('["it is red", "it is black", "a screen"]')
    model = build_method("classname-free", {"pool": str(path), "templates": "task"}).estimator(encoder, problem(2))
    assert model.pool.texts == ("it is red", "it is black", "a screen")
    assert len(model.options.caption_templates) == 2


@pytest.mark.parametrize("how", ["mean", "max"])
def test_the_conventional_setting_says_names_in_every_text(encoder: Any, how: str) -> None:
    model = build_method("classname-free", {"k": 3, "m": 2, "conventional": how}).estimator(encoder, problem(3))
    x = encoder.encode_images([sample.image for sample in SAMPLES])
    scored = model.score(x)
    labels = []
    for row, image in enumerate(x):
        index = scored.set_index[row]
        values = {}
        for label, chosen in zip(scored.selected.sets[index].tolist(), scored.selected.chosen[index].tolist(), strict=True):
            texts = [f"A photo of a {CLASSES[label]}, {model.pool.texts[p]}." for p in chosen if p >= 0] or [
                f"A photo of a {CLASSES[label]}."
            ]
            cosines = (encoder.encode_texts(texts) @ image).tolist()
            values[label] = max(cosines) if how == "max" else sum(cosines) / len(cosines)
        assert scored.B[row].tolist() == pytest.approx([values[label] for label in scored.L[row].tolist()], abs=1e-6)
        labels.append(max(values, key=lambda label: values[label]))
    assert model.predict(x).tolist() == labels
    assert (model.w, model.w_origin) == (0.0, "conventional")
    with pytest.raises(UsageError, match="take name and descriptions apart"):
        model.explain(x[0])


def test_what_is_refused(encoder: Any) -> None:
    with pytest.raises(UsageError, match="has no descriptions"):
        build_method("classname-free").predictor(encoder, problem(1, None))
    with pytest.raises(DataError, match="no descriptions for the class 'shoe'"):
        build_method("classname-free").predictor(encoder, problem(1, {name: POOL[name] for name in CLASSES[:3]}))
    with pytest.raises(UsageError, match="test labels"):
        ClassnameFreeConfig(w_cls="oracle")
    with pytest.raises(UsageError, match="templates"):
        ClassnameFreeConfig(templates="other")
    with pytest.raises(UsageError, match="no option"):
        build_method("classname-free", {"mm": 3})
