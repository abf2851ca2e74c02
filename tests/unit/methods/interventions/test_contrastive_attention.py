"""Contrastive attention in one pass on tiny random models: its decisions against eager attention, its edits against closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny_mllm as tiny
from toolkit.errors import Refused, UsageError
from toolkit.hooks import HookSession
from toolkit.methods.interventions.contrast import closed_form_mass, norm_gain
from toolkit.methods.interventions.contrastive_attention import Attached, ContrastiveAttention
from toolkit.methods.interventions.contrastive_attention_config import CHOICES

LAYERS: dict[str, Any] = {"candidates": [0, 1, 2], "late": 3, "review": 4, "layer_base": 0}
CAUSAL = ("llava", "llava_next", "qwen2_5_vl", "internvl")
FAMILIES = tuple(family for family in tiny.FAMILIES if family not in (*tiny.CROSS_ATTENTION, "gemma3"))


@pytest.fixture(scope="module")
def llava() -> Any:
    return tiny.build("llava")


def method(**options: Any) -> ContrastiveAttention:
    return ContrastiveAttention(**{**LAYERS, **options})


def run(model: Any, inputs: dict[str, Tensor], **options: Any) -> tuple[Tensor, Attached]:
    attached = method(**options).attach(model)
    with torch.no_grad(), attached:
        logits = model(**inputs).logits
    return logits, attached


def plain(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def eager(family: str, inputs: dict[str, Tensor]) -> list[np.ndarray]:
    """(B, H, L, L) of every layer, in float64, from a second model with the same weights and eager attention."""
    model = tiny.build(family)
    model.set_attn_implementation({"text_config": "eager"})
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    attentions = getattr(output, "language_model_outputs", output).attentions
    return [layer.double().numpy() for layer in attentions]


def by_hand(
    rows: list[np.ndarray], images: np.ndarray, rho: float, normalise: str = "image_after_mean", kind: str = "abs"
) -> dict[str, Any]:
    """The method in numpy. ``rows``: layer -> (H, L) attention of the query."""
    a = {layer: rows[layer].mean(0)[images] for layer in (0, 1, 2, 3)}
    p = {layer: a[layer] / a[layer].sum() for layer in a}
    distance = {layer: np.sqrt(((np.sqrt(p[layer]) - np.sqrt(p[3])) ** 2).sum()) / np.sqrt(2) for layer in (0, 1, 2)}
    pre = max(distance, key=lambda layer: (distance[layer], -layer))
    late, early = (p[3], p[pre]) if normalise == "image_after_mean" else (a[3], a[pre])
    importance = {"abs": np.abs(late - early), "signed": late - early, "relu": np.maximum(late - early, 0)}[kind]
    return {"pre": pre, "distance": distance, "importance": importance, "masked": importance < np.quantile(importance, rho)}


def agrees(decision: Any, expected: dict[str, Any]) -> None:
    assert decision.pre == expected["pre"]
    np.testing.assert_allclose(list(decision.distances.values()), list(expected["distance"].values()), atol=1e-5)
    np.testing.assert_allclose(decision.importance, expected["importance"], atol=1e-6)
    # The mask may differ only where I lies within float32's rounding of its quantile.
    limit = np.quantile(expected["importance"], float(decision_rho))
    sure = np.abs(expected["importance"] - limit) > 1e-6
    assert (decision.masked.numpy() == expected["masked"])[sure].all()


decision_rho = 0.3


@pytest.mark.parametrize("family", FAMILIES)
def test_decisions_are_those_of_eager_attention(family: str) -> None:
    model = tiny.build(family)
    inputs = tiny.inputs(family, model, batch=2)
    _, attached = run(model, inputs, rho=decision_rho)
    attentions = eager(family, inputs)
    for row, decision in enumerate(attached.found):
        assert decision is not None
        images = (inputs["input_ids"][row] == tiny.IMAGE).numpy()
        assert decision.positions.tolist() == np.nonzero(images)[0].tolist()
        agrees(decision, by_hand([layer[row, :, -1] for layer in attentions], images, decision_rho))


@pytest.mark.parametrize(
    ("normalise", "kind"), [("none", "abs"), ("none", "relu"), ("image_after_mean", "signed"), ("image_after_mean", "relu")]
)
def test_normalisations_and_contrasts(llava: Any, normalise: str, kind: str) -> None:
    inputs = tiny.inputs("llava", llava, batch=1)
    _, attached = run(llava, inputs, rho=decision_rho, normalise=normalise, contrast=kind)
    images = (inputs["input_ids"][0] == tiny.IMAGE).numpy()
    agrees(attached.found[0], by_hand([layer[0, :, -1] for layer in eager("llava", inputs)], images, decision_rho, normalise, kind))


def test_the_mean_question_is_the_mean_over_the_text_behind_the_image(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava, batch=1)
    _, attached = run(llava, inputs, rho=decision_rho, query="mean_question")
    images = (inputs["input_ids"][0] == tiny.IMAGE).numpy()
    behind = int(np.nonzero(images)[0].max()) + 1
    agrees(attached.found[0], by_hand([layer[0, :, behind:].mean(1) for layer in eager("llava", inputs)], images, decision_rho))


def test_chosen_heads(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava, batch=1)
    attentions = [layer[0, :, -1] for layer in eager("llava", inputs)]
    images = (inputs["input_ids"][0] == tiny.IMAGE).numpy()
    _, attached = run(llava, inputs, rho=decision_rho, heads=[1, 3])
    agrees(attached.found[0], by_hand([rows[[1, 3]] for rows in attentions], images, decision_rho))
    _, attached = run(llava, inputs, rho=decision_rho, heads={"3": [2]})
    agrees(attached.found[0], by_hand([*attentions[:3], attentions[3][[2]]], images, decision_rho))
    _, attached = run(llava, inputs, rho=decision_rho, heads="max")
    agrees(attached.found[0], by_hand([rows.max(0)[None] for rows in attentions], images, decision_rho))
    with pytest.raises(Refused, match="layer 0: the option heads"):
        run(llava, inputs, heads=[9])


# --- What is masked, and what that does


@pytest.mark.parametrize("lam", [0.1, 0.01, 0.0])
@pytest.mark.parametrize("family", CAUSAL)
def test_the_mass_on_masked_tokens_is_the_closed_form(family: str, lam: float) -> None:
    model = tiny.build(family)
    inputs = tiny.inputs(family, model, batch=2)
    attached = method(rho=0.5, lam=lam).attach(model)
    rows = attached.session.read([4])
    with torch.no_grad(), attached:
        model(**inputs)
    before = torch.tensor(np.stack([layer[:, :, -1] for layer in eager(family, inputs)])[4])
    for row, decision in enumerate(attached.found):
        assert decision is not None
        masked = decision.positions[decision.masked]
        share = before[row][:, masked].sum(-1)
        after = rows[4][row].double()[:, masked].sum(-1)
        # Per head, as the logits of each head get the bias: float32 softmax, hence 1e-6.
        torch.testing.assert_close(after, closed_form_mass(share, lam), atol=1e-6, rtol=0)
        torch.testing.assert_close(rows[4][row].sum(-1), torch.ones(tiny.HEADS), atol=1e-5, rtol=0)
        assert share.mean() > 0.02
        assert (after < share).all()


def keys_at(model: Any, inputs: dict[str, Tensor], layer: int, attached: Any = None) -> Tensor:
    with HookSession(model) as hooks, torch.no_grad():
        keys = hooks.read(f"lm.k:{layer}")
        if attached is None:
            model(**inputs)
        else:
            with attached:
                model(**inputs)
    return keys.last.double()


@pytest.mark.parametrize("lam", [0.1, 0.01, 0.001])
def test_scaling_the_residual_masks_nothing_in_the_layer_itself(llava: Any, lam: float) -> None:
    """The finding behind the default: keys of the review layer change by 1 - g(lam), and attention stays."""
    inputs = tiny.inputs("llava", llava, batch=1)
    before, shares, changes = keys_at(llava, inputs, 4), {}, {}
    for where in ("residual", "attn_input", "logit_bias"):
        attached = method(rho=0.5, lam=lam, where=where).attach(llava)
        rows = attached.session.read([4])
        keys = keys_at(llava, inputs, 4, attached)
        decision = attached.found[0]
        assert decision is not None
        masked = decision.positions[decision.masked]
        changes[where] = ((keys - before)[:, masked].norm() / before[:, masked].norm()).item()
        shares[where] = rows[4][0][:, masked].sum().item() / tiny.HEADS
    share = sum(layer[0, :, -1][:, masked].sum() / tiny.HEADS for layer in eager("llava", inputs)[4:5])
    with HookSession(llava) as hooks, torch.no_grad():
        block = hooks.read("lm.block:3")
        llava(**inputs)
    # Keys have no bias here, so a token's key is multiplied by g(lam) of its own hidden state.
    eps = llava.config.text_config.rms_norm_eps
    gains = torch.tensor([norm_gain(lam, block.last[0, place].square().mean().item(), eps) for place in masked.tolist()])
    expected = ((1 - gains)[:, None] * before[0, masked]).norm() / before[0, masked].norm()
    assert changes["logit_bias"] == 0
    assert changes["attn_input"] == pytest.approx(1 - lam, abs=1e-5)
    assert changes["residual"] == pytest.approx(expected.item(), abs=1e-4)
    if lam == 0.1:
        assert changes["residual"] < 1e-3
        assert shares["residual"] == pytest.approx(share, rel=1e-3)
        assert shares["logit_bias"] < 0.2 * share


@pytest.mark.parametrize("where", CHOICES["where"])
@pytest.mark.parametrize("options", [{"rho": 0.0}, {"lam": 1.0}, {"mode": "maps"}])
def test_neutral_options_change_no_bit(llava: Any, where: str, options: dict[str, Any]) -> None:
    inputs = tiny.inputs("llava", llava)
    logits, attached = run(llava, inputs, where=where, **options)
    assert torch.equal(logits, plain(llava, inputs))
    assert len(attached.decisions) == 2
    assert method(where=where, **options).config.is_neutral


@pytest.mark.parametrize("where", CHOICES["where"])
def test_every_edit_changes_the_answer_and_leaves_no_trace(llava: Any, where: str) -> None:
    inputs = tiny.inputs("llava", llava)
    before = plain(llava, inputs)
    logits, attached = run(llava, inputs, where=where, rho=0.5)
    assert not torch.allclose(logits, before, atol=1e-3)
    assert torch.equal(plain(llava, inputs), before)
    assert attached.decisions[0]["edit"]["where"] == where
    assert attached.decisions[0]["masked"] == 18


def test_onward_masks_more_than_the_review_layer(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava, batch=1)
    shares = {}
    for until in ("review", "onward"):
        attached = method(rho=0.5, lam=0.0, until=until).attach(llava)
        rows = attached.session.read([4, 5])
        with torch.no_grad(), attached:
            llava(**inputs)
        decision = attached.found[0]
        assert decision is not None
        shares[until] = [rows[layer][0][:, decision.positions[decision.masked]].sum().item() for layer in (4, 5)]
    assert shares["review"][0] == shares["onward"][0] == 0
    assert shares["review"][1] > 0.01
    assert shares["onward"][1] == 0


def test_hidden_images_at_the_start_leave_no_row_empty_and_leak_nothing(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava, batch=1)
    ids = inputs["input_ids"][0]
    inputs["input_ids"] = torch.cat([ids[ids == tiny.IMAGE], ids[ids != tiny.IMAGE]])[None]
    logits, attached = run(llava, inputs, rho=0.9, lam=0.0)
    assert logits.isfinite().all()
    assert attached.decisions[0]["masked"] == 32
    decision = attached.found[0]
    assert decision is not None
    masked = torch.zeros(1, ids.numel(), dtype=torch.bool)
    masked[0, decision.positions[decision.masked]] = True
    forced = [Attached(llava, method(rho=0.9, lam=0.0).config, attached.layers, forced=masked) for _ in range(2)]
    with torch.no_grad(), forced[0]:
        first = llava(**inputs).logits
    assert torch.equal(first, logits)
    changed = inputs["input_ids"].clone()
    changed[0, -1] = changed[0, -1] + 1
    with torch.no_grad(), forced[1]:
        second = llava(**{**inputs, "input_ids": changed}).logits
    assert torch.equal(first[:, :-1], second[:, :-1])
    assert not torch.equal(first[:, -1], second[:, -1])


def test_one_pass_masks_what_a_separate_maps_run_finds(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava)
    logits, masking = run(llava, inputs, rho=0.4)
    _, looking = run(llava, inputs, rho=0.4, mode="maps", contrast="abs")
    masked = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
    for row, (first, second) in enumerate(zip(masking.found, looking.found, strict=True)):
        assert first is not None
        assert second is not None
        assert torch.equal(first.masked, second.masked)
        assert first.pre == second.pre
        masked[row, second.positions[second.masked]] = True
    forced = Attached(llava, method(rho=0.4).config, masking.layers, forced=masked)
    with torch.no_grad(), forced:
        assert torch.equal(llava(**inputs).logits, logits)


# --- Batches


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", ["llava", "llava_next", "qwen2_5_vl", "paligemma"])
def test_a_prompt_is_decided_alone_as_in_any_batch(family: str, side: str) -> None:
    model = tiny.build(family)
    batch = tiny.inputs(family, model, batch=3, padding=side)
    together, attached = run(model, batch, rho=0.3)
    for row in range(3):
        real = batch["attention_mask"][row].bool()
        alone = {key: value[row : row + 1, real] for key, value in batch.items() if value.shape[:2] == batch["input_ids"].shape}
        alone |= vision_of(family, batch, row)
        logits, single = run(model, alone, rho=0.3)
        one, many = single.found[0], attached.found[row]
        assert one is not None
        assert many is not None
        assert one.pre == many.pre
        torch.testing.assert_close(one.importance, many.importance, atol=1e-6, rtol=0)
        limit = torch.quantile(one.importance, 0.3)
        same = one.masked == many.masked
        assert same[(one.importance - limit).abs() > 1e-7].all()
        if same.all():
            torch.testing.assert_close(logits[0], together[row, real], atol=2e-4, rtol=0)  # two shapes of the same matrix products
            assert torch.equal(logits[0, -1].argmax(), together[row, real][-1].argmax())


def vision_of(family: str, batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    if "image_grid_thw" in batch:
        patches = len(batch["pixel_values"]) // 3
        return {
            "pixel_values": batch["pixel_values"][row * patches : (row + 1) * patches],
            "image_grid_thw": batch["image_grid_thw"][row : row + 1],
        }
    return {key: batch[key][row : row + 1] for key in ("pixel_values", "image_sizes") if key in batch}


def test_a_permuted_batch_gives_permuted_decisions(llava: Any) -> None:
    batch = tiny.inputs("llava", llava, batch=3)
    order = [2, 0, 1]
    _, first = run(llava, batch)
    _, second = run(llava, {key: value[order] for key, value in batch.items()})
    for place, row in enumerate(order):
        one, other = second.found[place], first.found[row]
        assert one is not None
        assert other is not None
        assert one.pre == other.pre
        assert torch.equal(one.masked, other.masked)


def test_one_layer_for_the_whole_batch_is_that_of_the_mean_distance(llava: Any) -> None:
    batch = tiny.inputs("llava", llava, batch=4, seed=3)
    _, single = run(llava, batch)
    _, shared = run(llava, batch, selection="per_batch")
    means = {layer: np.mean([decision.distances[layer] for decision in single.found if decision]) for layer in (0, 1, 2)}
    assert {decision.pre for decision in shared.found if decision} == {max(means, key=lambda layer: means[layer])}
    _, fixed = run(llava, batch, selection="fixed", candidates=[1])
    assert [decision.pre for decision in fixed.found if decision] == [1] * 4


def test_views_of_their_own_have_quantiles_of_their_own() -> None:
    model = tiny.build("llava_next")
    inputs = tiny.inputs("llava_next", model, batch=1)
    _, whole = run(model, inputs, rho=0.5)
    _, base = run(model, inputs, rho=0.5, image_scope="base_view")
    _, views = run(model, inputs, rho=0.5, image_scope="per_view")
    tokens = whole.found[0]
    assert tokens is not None
    assert [(view.kind, view.grid) for view in tokens.views] == [("base", (6, 6)), ("detail", (6, 12))]
    assert len(tokens.positions) == 36 + 6 * 13  # every row of the detail ends with a newline token
    counts = []
    for attached in (whole, base, views):
        decision = attached.found[0]
        assert decision is not None
        hidden = set(decision.positions[decision.masked].tolist())
        counts.append([len(hidden & set(view.positions.tolist())) for view in decision.views] + [len(hidden)])
    assert counts[0][2] == 57  # half of all 114
    assert counts[1] == [18, 0, 18]
    assert counts[2] == [18, 36, 54]
    rows = [layer[0, :, -1].mean(0) for layer in eager("llava_next", inputs)]
    detail = views.found[0]
    assert detail is not None
    places = detail.views[1].positions.numpy()
    early, late = rows[detail.pre][places], rows[3][places]
    expected = np.abs(late / late.sum() - early / early.sum())
    index = torch.searchsorted(detail.positions, detail.views[1].positions)
    np.testing.assert_allclose(detail.importance[index], expected, atol=1e-6)
    maps = detail.maps()
    assert [(view["kind"], view["grid"], len(view["masked"])) for view in maps] == [("base", [6, 6], 18), ("detail", [6, 12], 36)]
    np.testing.assert_allclose(maps[1]["contrast"], expected, rtol=1e-3, atol=1e-6)


def test_two_images_are_one_distribution_unless_views_are_their_own(llava: Any) -> None:
    inputs = tiny.inputs("llava", llava, batch=1, images=2)
    _, together = run(llava, inputs, rho=0.5)
    _, apart = run(llava, inputs, rho=0.5, image_scope="per_view")
    first, second = together.found[0], apart.found[0]
    assert first is not None
    assert second is not None
    assert (first.masked.sum(), together.decisions[0]["images"]) == (36, [36, 36])
    assert [second.masked[:36].sum(), second.masked[36:].sum()] == [18, 18]
    assert not torch.equal(first.masked, second.masked)


def test_views_are_known_within_generate_whose_beams_share_them() -> None:
    for family, kinds in (("llava_next", ["base", "detail"]), ("qwen2_5_vl", ["whole"])):
        model = tiny.build(family)
        inputs = tiny.inputs(family, model)
        _, forward = run(model, inputs, rho=0.5, image_scope="per_view")
        attached = method(rho=0.5, image_scope="per_view").attach(model)
        with torch.no_grad(), attached:
            model.generate(**inputs, **settings(num_beams=2, max_new_tokens=2))
        for number, decision in enumerate(attached.found):
            once = forward.found[number // 2]
            assert decision is not None
            assert once is not None
            assert [view.kind for view in decision.views] == kinds
            assert torch.equal(decision.masked, once.masked)


# --- generate


def settings(**more: Any) -> dict[str, Any]:
    return {"max_new_tokens": 6, "do_sample": False, "pad_token_id": tiny.PAD, **more}


@pytest.fixture
def pair(llava: Any) -> tuple[Any, dict[str, Tensor]]:
    return llava, tiny.inputs("llava", llava)


@pytest.mark.parametrize(
    ("more", "rows"),
    [({}, 2), ({"num_beams": 3}, 6), ({"do_sample": True, "num_return_sequences": 2}, 4), ({"cache_implementation": "static"}, 2)],
)
def test_one_decision_for_every_row_of_a_prefill(pair: Any, more: dict[str, Any], rows: int) -> None:
    model, inputs = pair
    attached = method(rho=0.5, lam=0.0).attach(model)
    with torch.no_grad(), attached:
        torch.manual_seed(0)
        made = model.generate(**inputs, **settings(**more))
    assert len(attached.decisions) == rows
    assert made.shape[1] == inputs["input_ids"].shape[1] + 6
    per_row = rows // 2
    assert [attached.decisions[0]] * per_row == attached.decisions[:per_row]
    json.dumps(attached.decisions)


@pytest.mark.parametrize("phase", ["auto", "prefill"])
def test_steps_of_decoding_see_what_a_full_pass_would(pair: Any, phase: str) -> None:
    """A bias that acts in decoding gives the logits of a pass over the whole text with the same mask; without it they differ."""
    model, inputs = pair
    one = {key: value[:1] for key, value in inputs.items()}
    attached = method(rho=0.5, lam=0.0, phase=phase).attach(model)
    with torch.no_grad(), attached:
        made = model.generate(**one, **settings(output_scores=True, return_dict_in_generate=True, eos_token_id=-1))
    decision = attached.found[0]
    assert decision is not None
    length = one["input_ids"].shape[1]
    masked = torch.zeros(1, length, dtype=torch.bool)
    masked[0, decision.positions[decision.masked]] = True
    text = made.sequences[:, :-1]
    full = {**one, "input_ids": text, "attention_mask": torch.ones_like(text)}
    with torch.no_grad(), Attached(model, method(rho=0.5, lam=0.0).config, attached.layers, forced=masked):
        logits = model(**full).logits[0, length - 1 :]
    steps = torch.stack([score[0] for score in made.scores])
    if phase == "auto":
        torch.testing.assert_close(steps, logits, atol=2e-4, rtol=0)
    else:
        torch.testing.assert_close(steps[0], logits[0], atol=2e-4, rtol=0)
        assert not torch.allclose(steps[1:], logits[1:], atol=1e-2)


def test_an_interrupted_pass_leaves_no_decision_and_no_trace(pair: Any) -> None:
    model, inputs = pair
    before = plain(model, inputs)
    for error in (RuntimeError, KeyboardInterrupt):
        attached = method(rho=0.5).attach(model)

        def fail(states: Tensor, error: type[BaseException] = error) -> Tensor:
            raise error("stop")

        hooks = HookSession(model)
        hooks.edit("lm.block:5", fail)
        with pytest.raises(error), hooks, torch.no_grad(), attached:
            model(**inputs)
        assert attached.decisions == []
        assert torch.equal(plain(model, inputs), before)


def test_prompts_without_image_are_refused_or_pass_through(pair: Any) -> None:
    model, inputs = pair
    text = {"input_ids": torch.randint(16, 400, (2, 9)), "attention_mask": torch.ones(2, 9, dtype=torch.long)}
    with pytest.raises(Refused, match="no image token"):
        run(model, text)
    logits, attached = run(model, text, on_no_image="skip")
    assert torch.equal(logits, plain(model, text))
    assert [decision["image_tokens"] for decision in attached.decisions] == [0, 0]
    assert "passed through" in attached.decisions[0]["notes"][-1]
    with attached, torch.no_grad():
        model(**inputs)
        model(**text)
    assert [decision["image_tokens"] for decision in attached.decisions] == [0, 0, 36, 36, 0, 0]


@pytest.mark.parametrize("where", CHOICES["where"])
def test_both_back_ends_decide_and_edit_alike(pair: Any, where: str) -> None:
    model, inputs = pair
    logits, attached = run(model, inputs, where=where, rho=0.5)
    others, other = run(model, inputs, where=where, rho=0.5, backend="hook")
    torch.testing.assert_close(others, logits, atol=1e-4, rtol=0)  # the mask of a bias is built in another place
    assert [decision["i_star"] for decision in other.decisions] == [decision["i_star"] for decision in attached.decisions]
    assert {decision["backend"] for decision in other.decisions} == {"hook"}


# --- Records and refusals


def test_a_decision_says_everything_and_is_json(pair: Any) -> None:
    model, inputs = pair
    _, attached = run(model, inputs, keep_maps=True, layer_base=1, candidates=[1, 2, 3], late=4, review=5, rho=0.3)
    record = json.loads(json.dumps(attached.decisions[0]))
    assert record["layers"] == {"candidates": [0, 1, 2], "late": 3, "review": 4, "layer_base": 1, "from": "options"}
    assert record["edit"] == {"where": "logit_bias", "lam": 0.1, "rho": 0.3, "until": "review", "phase": "all"}
    assert (record["method"], record["mode"], record["backend"], record["masked"]) == ("contrastive-attention", "mask", "interface", 11)
    assert record["i_star"] == max(record["hellinger"], key=record["hellinger"].get) or str(record["i_star"]) in record["hellinger"]
    (view,) = record["maps"]
    assert (view["grid"], view["box"], len(view["early"]), len(view["masked"])) == ([6, 6], [0, 0, 1, 1], 36, 11)
    assert sum(view["late"]) == pytest.approx(1, abs=1e-3)


def test_the_two_numberings_give_different_and_recorded_indices(pair: Any) -> None:
    model, inputs = pair
    options = {"candidates": [1, 2], "late": 4, "review": 5}
    records = [run(model, inputs, **options, layer_base=base)[1].decisions[0]["layers"] for base in (0, 1)]
    assert [(record["candidates"], record["late"], record["review"], record["layer_base"]) for record in records] == [
        ([1, 2], 4, 5, 0), ([0, 1], 3, 4, 1),
    ]  # fmt: skip


def test_the_literal_preset_lasts_and_says_so(pair: Any) -> None:
    model, inputs = pair
    _, attached = run(model, inputs, preset="paper-literal")
    record = attached.decisions[0]
    assert record["edit"] | {"rho": 0.2, "lam": 0.1} == {
        "where": "residual", "lam": 0.1, "rho": 0.2, "until": "onward", "phase": "prefill",
    }  # fmt: skip
    assert any("onward" in note for note in record["notes"])


def test_what_one_pass_cannot_do_is_refused_before_anything_runs(llava: Any) -> None:
    for options in ({"mode": "crop"}, {"query": "first_generated"}):
        with pytest.raises(Refused) as caught:
            method(**options).attach(llava)
        assert "answer(answerer, questions)" in (caught.value.hint or "")
    with pytest.raises(Refused, match="no published layers"):
        ContrastiveAttention().attach(llava)
    with pytest.raises(Refused, match="beyond the depth"):
        method(review=6).attach(llava)
    with pytest.raises(Refused, match="does not lie before"):
        method(candidates=[3]).attach(llava)
    with pytest.raises(UsageError, match="rho is 20"):
        method(rho=20)


def test_models_and_calls_that_would_give_wrong_decisions_are_refused(llava: Any) -> None:
    mllama = tiny.build("mllama")
    with pytest.raises(Refused, match=r"no self-attention"):
        run(mllama, tiny.inputs("mllama", mllama), candidates=[0, 1], late=4, review=6)
    with pytest.raises(Refused, match="no image token"):
        run(mllama, tiny.inputs("mllama", mllama), candidates=[0, 1], late=4, review=5)
    inputs = tiny.inputs("llava", llava)
    with pytest.raises(Refused, match="chunk"), method().attach(llava):
        llava.generate(**inputs, **settings(prefill_chunk_size=8))
    with torch.no_grad():
        cache = llava(**inputs, use_cache=True).past_key_values
    more = {
        "input_ids": torch.full((2, 3), 20),
        "attention_mask": torch.ones(2, inputs["input_ids"].shape[1] + 3),
        "past_key_values": cache,
    }
    with pytest.raises(Refused, match="cache"), method().attach(llava), torch.no_grad():
        llava(**more)


def test_layers_with_a_sliding_window_are_refused_where_the_prompt_is_longer() -> None:
    gemma = tiny.build("gemma3", sliding_window=8)
    for module in gemma.modules():
        if getattr(module, "sliding_window", None):
            module.sliding_window = 8
    inputs = tiny.inputs("gemma3", gemma)
    with pytest.raises(Refused, match="sees only the last 8 tokens"):
        run(gemma, inputs)
    logits, attached = run(gemma, inputs, candidates=[0], late=2, review=4)
    assert logits.isfinite().all()
    assert len(attached.decisions) == 2


def test_options_come_as_config_or_by_name() -> None:
    first = ContrastiveAttention(rho=0.3)
    assert ContrastiveAttention(first.config).config == first.config
    assert ContrastiveAttention(first.config, lam=0.5).config.lam == 0.5
    with pytest.raises(UsageError) as caught:
        ContrastiveAttention(rh0=0.3)
    assert "rho" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="takes a ContrastiveAttentionConfig"):
        ContrastiveAttention({"rho": 0.3})  # type: ignore[arg-type]


def test_the_table_of_the_documentation_is_the_measured_one() -> None:
    root = Path(__file__).resolve().parents[4]
    table = (root / "docs" / "tables" / "masking.md").read_text(encoding="utf-8")
    assert table.strip() in (root / "docs" / "contrastive_attention.md").read_text(encoding="utf-8")
