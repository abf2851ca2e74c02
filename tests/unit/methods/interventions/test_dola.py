"""DoLa against official hidden states: a decoding loop with ``output_hidden_states``, no hooks and no cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from tests import tiny_mllm
from tests.unit.methods.interventions.test_vcd import generate, longer, model_of
from toolkit.errors import Refused, UsageError
from toolkit.hooks import HookSession
from toolkit.methods.interventions.dola import Dola, candidate_layers, contrast_layers, divergence, farthest_layer
from toolkit.patching import patch


@pytest.mark.parametrize(
    ("layers", "depth", "tied", "expected"),
    [
        ("low", 32, False, list(range(0, 16, 2))),
        ("high", 32, False, list(range(16, 32, 2))),
        ("low", 40, False, list(range(0, 20, 2))),
        ("high", 40, False, list(range(20, 40, 2))),
        ("low", 80, False, list(range(0, 20, 2))),
        ("high", 80, False, list(range(60, 80, 2))),
        ("low", 32, True, list(range(2, 16, 2))),
        ("low", 4, True, [2]),
        ("low", 2, True, [1]),
        ("low", 1, True, [0]),
        ([5, 3, 3], 6, False, [3, 5]),
        ([], 6, False, []),
    ],
)  # fmt: skip
def test_buckets(layers: Any, depth: int, tied: bool, expected: list[int]) -> None:
    assert list(candidate_layers(layers, depth, tied=tied)) == expected


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="no premature layer 6"):
        candidate_layers([2, 6], 6)


def pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 9, generator=generator) * 3, torch.randn(4, 9, generator=generator) * 3


def test_divergence_is_that_of_scipy() -> None:
    one, other = pair(0)
    p, q = one.double().softmax(-1).numpy(), other.double().softmax(-1).numpy()
    np.testing.assert_allclose(divergence(one, other).numpy(), jensenshannon(p, q, axis=1) ** 2, atol=1e-6)
    assert torch.equal(divergence(one, one), torch.zeros(4))
    middle = (p + q) / 2
    mixture = 0.5 * ((middle * np.log(middle / p)).sum(1) + (middle * np.log(middle / q)).sum(1))
    np.testing.assert_allclose(divergence(one, other, "mixture").numpy(), mixture, rtol=1e-5, atol=1e-6)


def test_the_farthest_layer_is_chosen_for_each_row() -> None:
    mature, near = pair(1)
    far = torch.flip(mature, (-1,))
    mixed = [torch.cat([near[:2], far[2:]]), torch.cat([far[:2], near[2:]])]
    places, distances = farthest_layer(mature, mixed)
    assert distances.shape == (2, 4)
    for row in range(4):
        values = [float(divergence(mature[row], layer[row])) for layer in mixed]
        assert int(places[row]) == values.index(max(values))
        alone, _ = farthest_layer(mature[row], [layer[row] for layer in mixed])
        assert int(alone) == int(places[row])
    assert farthest_layer(mature, [mature, mature])[0].tolist() == [0, 0, 0, 0]


def test_contrast_of_layers_is_its_formula() -> None:
    mature, premature = pair(2)
    p, q = mature.double().softmax(-1), premature.double().softmax(-1)
    found = contrast_layers(mature, premature, 0.1)
    for row in range(4):
        for word in range(9):
            expected = math.log(p[row, word] / q[row, word]) if p[row, word] >= 0.1 * p[row].max() else -math.inf
            assert float(found[row, word]) == pytest.approx(expected, abs=1e-4)


def by_hand(model: Any, inputs: dict[str, torch.Tensor], layers: list[int], tokens: int, *, norm: Any = None) -> list[list[int]]:
    head, found = model.get_output_embeddings(), []
    with torch.no_grad():
        for _ in range(tokens):
            states = model(**inputs, use_cache=False, output_hidden_states=True)
            mature = states.logits[:, -1]
            hidden = [states.hidden_states[layer][:, -1] for layer in layers]
            premature = torch.stack([head(state if norm is None else norm(state)) for state in hidden])
            choice = [max(range(len(layers)), key=lambda j: float(divergence(mature[row], premature[j, row]))) for row in range(2)]
            chosen = torch.stack([premature[choice[row], row] for row in range(2)])
            token = contrast_layers(mature, chosen, 0.1).argmax(-1)
            found.append(token)
            inputs = longer(inputs, token)
    return torch.stack(found, dim=1).tolist()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "internvl", "idefics3"])
def test_generate_is_the_loop_by_hand(family: str) -> None:
    model, inputs = model_of(family)
    layers = [0, 2, 4]
    expected = by_hand(model, inputs, layers, 3)
    with patch(model, Dola(layers=layers)):
        assert generate(model, inputs, 3) == expected
        assert generate(model, inputs, 3, use_cache=False) == expected
        assert generate(model, inputs, 3, cache_implementation="static") == expected


def test_final_norm() -> None:
    model, inputs = model_of("llava")
    expected = by_hand(model, inputs, [1, 3], 3, norm=model.get_decoder().norm)
    with patch(model, Dola(layers=[1, 3], final_norm=True)):
        assert generate(model, inputs, 3) == expected
    assert expected != by_hand(model, inputs, [1, 3], 3)


def test_all_positions_of_a_prompt_are_contrasted() -> None:
    """Log-probabilities of continuations come from a plain forward pass: it must agree with passes over the beginnings of the prompt."""
    model, inputs = model_of("llava")
    row = {key: value[:1] for key, value in inputs.items()}
    with patch(model, Dola(layers=[0, 2, 4], relative_top=0.0)), torch.no_grad():
        whole = model(**row).logits
        for length in (row["input_ids"].shape[1] - 3, row["input_ids"].shape[1] - 1):
            part = {key: value[:, :length] if key != "pixel_values" else value for key, value in row.items()}
            assert torch.allclose(model(**part).logits[:, -1], whole[:, length - 1], atol=1e-4)


def test_decisions_name_the_layer() -> None:
    model, inputs = model_of("llava")
    with patch(model, Dola(layers=[0, 2, 4])) as handle:
        tokens = generate(model, inputs, 3)
    assert len(handle.decisions) == 2
    for decision, row in zip(handle.decisions, tokens, strict=True):
        assert decision["token"] == row[0]
        far = decision["divergence"]
        assert far[str(decision["premature_layer"])] == max(far.values())
        assert list(far) == ["0", "2", "4"]


def test_a_model_that_changes_its_logits_is_refused() -> None:
    """Logits that are not the head's would make premature layers mean something else."""
    model, inputs = model_of("llava")
    with HookSession(model) as session:
        session.edit("model", lambda logits: logits * 2)
        with patch(model, Dola(layers=[2])), pytest.raises(Refused, match="behind the head"):
            generate(model, inputs)


def test_repetition_penalty_belongs_to_generate() -> None:
    model = tiny_mllm.build("llava")
    with pytest.raises(Refused, match="repetition penalty") as refusal:
        patch(model, Dola(repetition_penalty=1.2))
    assert "1.2" in str(refusal.value.hint)

    class Answers:
        module = model

        def answer(self, questions: Any, **kwargs: Any) -> Any:
            return kwargs

    kwargs: Any = Dola(layers=[2], repetition_penalty=1.2).answer(Answers(), [])  # type: ignore[arg-type]
    assert kwargs["repetition_penalty"] == 1.2


def test_options() -> None:
    for wrong in ({"layers": "middle"}, {"layers": [-1]}, {"relative_top": 20}, {"divergence": "l2"}, {"final_norm": 1}):
        with pytest.raises(UsageError):
            Dola(**wrong)
    with pytest.raises(UsageError, match="no premature layer 6"):
        patch(tiny_mllm.build("llava"), Dola(layers=[6]))
