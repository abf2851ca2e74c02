"""What every classification method keeps to, on real (tiny) models of both libraries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from toolkit.cache import FeatureStore
from toolkit.config import to_json
from toolkit.images import as_source
from toolkit.methods import build_method, list_methods
from toolkit.models import load_encoder
from toolkit.types import ClassifyProblem, Prediction, Sample

MODELS = {"clip": tiny.tiny_hf_clip, "siglip": tiny.tiny_siglip, "open_clip": tiny.tiny_open_clip}
CLASSES = ("dog", "cat", "phone", "shoe", "bag", "screen")
TOLERANCE = 1e-4  # of a probability: float32 embeddings differ by 1e-7 between batch sizes, times a scale of 20


@pytest.fixture(scope="module", params=MODELS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = MODELS[request.param](tmp_path_factory.mktemp(request.param))
    return load_encoder(f"local:{folder}", cache=False)


@pytest.fixture(scope="module")
def problem() -> ClassifyProblem:
    descriptions = {name: (f"it is a {name}", f"the {name} is red") for name in CLASSES}
    support = tuple(Sample(f"s{number}", as_source(picture(100 + number)), number % len(CLASSES)) for number in range(12))
    return ClassifyProblem(CLASSES, ("a photo of a {}.", "a {}"), descriptions, support)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (30 + seed % 7, 40, 3), dtype=np.uint8)


SAMPLES = [Sample(f"id{number}", as_source(picture(number)), number % len(CLASSES)) for number in range(9)]
SAMPLES.insert(4, Sample("broken", as_source(b"no image"), 0))


def weights_of(encoder: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in encoder.module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hooks_of(encoder: Any) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in encoder.module.modules() for kind in kinds)


def run(name: str, encoder: Any, problem: ClassifyProblem, samples: list[Sample] | None = None, batch_size: int = 4) -> list[Prediction]:
    return list(build_method(name).predictor(encoder, problem, batch_size=batch_size)(SAMPLES if samples is None else samples))


def assert_same(one: list[Prediction], other: list[Prediction], tolerance: float = 0.0) -> None:
    assert [prediction.id for prediction in one] == [prediction.id for prediction in other]
    for left, right in zip(one, other, strict=True):
        assert left.error == right.error
        if left.output is not None and right.output is not None:
            assert left.output["label"] == right.output["label"]
            np.testing.assert_allclose([p for _, p in left.output["top"]], [p for _, p in right.output["top"]], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", list_methods("classify"))
class TestEveryMethod:
    def test_order_shape_and_failures(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        found = run(name, encoder, problem)
        assert [prediction.id for prediction in found] == [sample.id for sample in SAMPLES]
        for prediction in found:
            if prediction.id == "broken":
                assert prediction.output is None
                assert prediction.error
                continue
            assert prediction.error is None
            output = prediction.output
            assert output is not None
            assert output["top"][0] == [output["label"], output["confidence"]]
            assert len(output["top"]) == min(5, len(CLASSES))
            assert sorted((p for _, p in output["top"]), reverse=True) == [p for _, p in output["top"]]
            assert all(0 <= index < len(CLASSES) and 0 <= p <= 1 for index, p in output["top"])

    def test_deterministic(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        torch.manual_seed(1)
        first = run(name, encoder, problem)
        torch.manual_seed(2)
        assert_same(first, run(name, encoder, problem))

    def test_batch_is_single(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        whole = run(name, encoder, problem)
        assert_same(whole, run(name, encoder, problem, batch_size=1), TOLERANCE)
        assert_same(whole, [prediction for sample in SAMPLES for prediction in run(name, encoder, problem, [sample])], TOLERANCE)
        backwards = run(name, encoder, problem, SAMPLES[::-1])
        assert_same(whole, backwards[::-1], TOLERANCE)

    def test_labels_are_not_read(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        unlabelled = [Sample(sample.id, sample.image) for sample in SAMPLES]
        assert_same(run(name, encoder, problem), run(name, encoder, problem, unlabelled))

    def test_the_model_is_left_as_it_was(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        before, hooks, state = weights_of(encoder), hooks_of(encoder), torch.get_rng_state()
        run(name, encoder, problem)
        assert weights_of(encoder) == before
        assert hooks_of(encoder) == hooks
        assert torch.equal(torch.get_rng_state(), state)
        assert not encoder.module.training
        assert all(weight.grad is None and not weight.requires_grad for weight in encoder.module.parameters())

    def test_an_exception_in_the_middle_leaves_nothing(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        before, hooks = weights_of(encoder), hooks_of(encoder)
        stream = iter(build_method(name).predictor(encoder, problem, batch_size=1)(SAMPLES))
        next(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
        assert (weights_of(encoder), hooks_of(encoder)) == (before, hooks)

    def test_json(self, name: str, encoder: Any, problem: ClassifyProblem) -> None:
        for prediction in run(name, encoder, problem):
            assert json.loads(json.dumps(prediction.output)) == prediction.output
        config = build_method(name).config
        assert type(config)(**json.loads(json.dumps(to_json(config)))) == config

    def test_cached_is_direct(self, name: str, encoder: Any, problem: ClassifyProblem, tmp_path: Path) -> None:
        from toolkit.models.cached import CachedEncoder

        direct = run(name, encoder, problem)
        remembering = CachedEncoder(encoder, FeatureStore(tmp_path / "features.sqlite"))
        assert_same(direct, run(name, remembering, problem), TOLERANCE)
        assert_same(direct, run(name, remembering, problem), TOLERANCE)
