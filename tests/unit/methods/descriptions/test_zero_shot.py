"""Zero-shot classification against its definition, on an encoder whose embeddings are known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.errors import UsageError
from toolkit.images import ArrayImage
from toolkit.methods import build_method
from toolkit.methods.descriptions.prototypes import class_probabilities, text_classifier
from toolkit.types import ClassifyProblem, EncodedBatch, Sample

CLASSES = tuple("abcdefg")


class Known:
    """Embeddings from a table; image 3 cannot be read."""

    logit_scale = 10.0

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> torch.Tensor:
        self.asked += texts
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, text)))) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    def iter_images(self, images: Sequence[Any], *, batch_size: int = 32, workers: int | None = None) -> Iterator[EncodedBatch]:
        for start in range(0, len(images), batch_size):
            part = range(start, min(start + batch_size, len(images)))
            good = [index for index in part if images[index].name != "3"]
            rows = [torch.randn(8, generator=torch.Generator().manual_seed(int(images[index].name))) for index in good]
            units = torch.nn.functional.normalize(torch.stack(rows), dim=-1) if rows else torch.empty(0, 8)
            yield EncodedBatch(good, units, [(index, "3 is broken") for index in part if index not in good])


def samples(count: int = 7) -> list[Sample]:
    return [Sample(f"id{number}", ArrayImage(np.zeros((2, 2, 3), np.uint8), name=str(number))) for number in range(count)]


def run(problem: ClassifyProblem | None = None, batch_size: int = 2, which: list[Sample] | None = None, **options: Any) -> Any:
    predict = build_method("zero-shot", options).predictor(Known(), problem or ClassifyProblem(CLASSES), batch_size=batch_size)
    return list(predict(samples() if which is None else which))


def test_prototypes_are_means_of_units_made_unit() -> None:
    encoder: Any = Known()
    templates = ("a {}.", "the {} {{x}}")
    found = text_classifier(encoder, ["cat", "dog"], templates)
    assert encoder.asked == ["a cat.", "the cat {{x}}", "a dog.", "the dog {{x}}"]
    for row, name in zip(found, ("cat", "dog"), strict=True):
        mean = encoder.encode_texts([f"a {name}."])[0] + encoder.encode_texts([f"the {name} {{{{x}}}}"])[0]
        torch.testing.assert_close(row, mean / mean.norm())


def test_probabilities_are_softmax_of_scaled_cosines() -> None:
    images, classes = torch.eye(3)[:2], torch.eye(3)
    found = class_probabilities(images, classes, 2.0)
    expected = np.exp([2, 0, 0]) / np.exp([2, 0, 0]).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(dim=1), 1.0)


def test_predictions_against_the_definition() -> None:
    encoder: Any = Known()
    prototypes = torch.nn.functional.normalize(encoder.encode_texts([f"a photo of a {name}." for name in CLASSES]), dim=-1)
    for prediction, sample in zip(run(), samples(), strict=True):
        assert prediction.id == sample.id
        if sample.id == "id3":
            assert (prediction.output, prediction.error) == (None, "3 is broken")
            continue
        (batch,) = encoder.iter_images([sample.image])
        logits = 10.0 * batch.embeddings[0] @ prototypes.T
        order = logits.argsort(descending=True).tolist()
        assert prediction.output["label"] == order[0]
        assert [index for index, _ in prediction.output["top"]] == order[:5]
        np.testing.assert_allclose(prediction.output["confidence"], logits.softmax(0).max(), rtol=1e-5)
        assert prediction.error is None
        assert prediction.seconds >= 0


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_change_nothing(batch_size: int) -> None:
    for one, other in zip(run(), run(batch_size=batch_size), strict=True):
        assert (one.id, one.error) == (other.id, other.error)
        if one.output is not None:
            np.testing.assert_allclose(one.output["top"], other.output["top"], rtol=1e-6)


def test_samples_without_an_image_keep_their_place() -> None:
    mixed = [Sample("first"), *samples(2), Sample("middle"), *samples(5)[4:], Sample("last")]
    found = run(which=mixed)
    assert [prediction.id for prediction in found] == ["first", "id0", "id1", "middle", "id4", "last"]
    assert [prediction.error is None for prediction in found] == [False, True, True, False, True, False]
    assert run(which=[]) == []


def test_predictions_come_as_a_stream() -> None:
    predict = build_method("zero-shot").predictor(Known(), ClassifyProblem(CLASSES), batch_size=2)
    assert next(iter(predict(samples()))).id == "id0"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["x a", "y a", "x b", "y b"]),
        ({"templates": "task"}, ["x a", "y a", "x b", "y b"]),
        ({"templates": "single"}, ["a photo of a a.", "a photo of a b."]),
        ({"templates": ["{}!"]}, ["a!", "b!"]),
        ({"templates": "{}?"}, ["a?", "b?"]),
    ],
)
def test_templates(options: dict[str, Any], expected: list[str]) -> None:
    encoder: Any = Known()
    build_method("zero-shot", options).predictor(encoder, ClassifyProblem(("a", "b"), ("x {}", "y {}")))
    assert encoder.asked == expected


def test_temperature() -> None:
    assert run()[0].output == run(temperature=0.1)[0].output
    cold, warm = run(temperature=0.01)[0].output, run(temperature=100)[0].output
    assert cold["label"] == warm["label"]
    assert cold["confidence"] > warm["confidence"] > 1 / len(CLASSES)


def test_one_class_and_equal_classes() -> None:
    assert run(ClassifyProblem(("a",)))[0].output == {"label": 0, "confidence": 1.0, "top": [[0, 1.0]]}
    same = run(ClassifyProblem(("a", "a", "a")))[0].output
    assert [index for index, _ in same["top"]] == [0, 1, 2]


def test_outputs_and_configuration_are_json() -> None:
    from toolkit.config import to_json

    for prediction in run():
        assert json.loads(json.dumps(prediction.output)) == prediction.output
    assert json.dumps(to_json(build_method("zero-shot", {"templates": ["a {}"]}).config)) == '{"templates": ["a {}"], "temperature": null}'


@pytest.mark.parametrize(
    "options",
    [
        {"templates": []}, {"templates": ["no slot"]}, {"templates": "a {} and a {}"}, {"templates": "tasks"}, {"templates": [3]},
        {"temperature": 0}, {"temperature": -1}, {"temperature": "warm"}, {"temperature": float("nan")}, {"temperature": True},
    ],
)  # fmt: skip
def test_impossible_options(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_method("zero-shot", options)


def test_impossible_problems() -> None:
    for problem in (ClassifyProblem(()), ClassifyProblem(("a",), ()), ClassifyProblem(("a",), ("no slot",))):
        with pytest.raises(UsageError):
            build_method("zero-shot").predictor(Known(), problem)
