"""What a second branch is made of: passes that no hook sees, caches that follow, prompts told from steps, encodings that are noted."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest
import torch

from tests import tiny_mllm
from tests.unit.methods.interventions.test_vcd import generate, model_of
from toolkit.hooks import HookSession, aside, is_aside
from toolkit.methods.interventions.branches import Encodings, Prompts, driver_of, follow_reorder, last_positions, named_inputs
from toolkit.methods.interventions.dola import Dola
from toolkit.methods.interventions.pai import Pai
from toolkit.methods.interventions.vcd import Vcd
from toolkit.patching import patch


def test_aside_no_hook_of_ours_acts_in_this_thread_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Identity())
    session = HookSession(model)
    session.edit("model", lambda value: value + 1)
    session.before("model", lambda args, kwargs: ((args[0] * 10,), kwargs))
    elsewhere: list[float] = []

    def fail() -> None:
        with aside():
            with aside():
                assert float(model(torch.tensor(1.0))) == 1
            assert is_aside()
            thread = threading.Thread(target=lambda: elsewhere.append(float(model(torch.tensor(1.0)))))
            thread.start()
            thread.join()
            raise RuntimeError("out")

    with session:
        assert float(model(torch.tensor(1.0))) == 11
        with pytest.raises(RuntimeError, match="out"):
            fail()
        assert elsewhere == [11]
        assert not is_aside()
        assert float(model(torch.tensor(1.0))) == 11


def test_the_second_branch_is_the_plain_model_whoever_came_first() -> None:
    """With a method for attention and one for logits on a model, the order of patching changes nothing."""
    model, inputs = model_of("llava")
    found = []
    for methods in ((Pai(alpha=1.0), Vcd(noise_step=999)), (Vcd(noise_step=999), Pai(alpha=1.0))):
        with patch(model, methods[0]), patch(model, methods[1]):
            found.append(generate(model, inputs))
    assert found[0] == found[1]
    with patch(model, Vcd(noise_step=999)):
        assert generate(model, inputs) != found[0]


def test_dola_reads_the_main_branch_whoever_came_first() -> None:
    model, inputs = model_of("llava")
    with patch(model, Dola(layers=[2])) as alone:
        generate(model, inputs)
    for methods in ((Dola(layers=[2]), Vcd()), (Vcd(), Dola(layers=[2]))):
        first, second = (patch(model, method) for method in methods)
        generate(model, inputs)
        dola = first if isinstance(methods[0], Dola) else second
        plain = [(row["premature_layer"], row["divergence"]) for row in alone.decisions]
        if dola is first:  # it hangs on the model before VCD does, so it sees the model's own logits
            assert [(row["premature_layer"], row["divergence"]) for row in dola.decisions] == plain
        first.remove()
        second.remove()


def test_a_cache_takes_its_second_along() -> None:
    from transformers import DynamicCache

    main, second = DynamicCache(), DynamicCache()
    for cache, shift in ((main, 0), (second, 100)):
        cache.update(torch.arange(3.0).view(3, 1, 1, 1) + shift, torch.zeros(3, 1, 1, 1), 0)
    third = DynamicCache()
    third.update(torch.arange(3.0).view(3, 1, 1, 1) + 200, torch.zeros(3, 1, 1, 1), 0)
    follow_reorder(main, second)
    follow_reorder(main, third)
    main.reorder_cache(torch.tensor([2, 2, 0]))
    for cache, shift in ((main, 0), (second, 100), (third, 200)):
        assert (cache.layers[0].keys.flatten() - shift).tolist() == [2, 2, 0]


def test_prompts_are_told_from_steps() -> None:
    from transformers import DynamicCache

    prompts = Prompts()
    ids = torch.tensor([[5, 6], [7, 8]])
    assert prompts.begins({"input_ids": ids})
    longer = torch.cat([ids, torch.tensor([[1], [2]])], dim=1)
    assert not prompts.begins({"input_ids": longer})  # a model without a cache goes on
    assert prompts.begins({"input_ids": longer})  # the same prompt again
    assert prompts.begins({"input_ids": torch.cat([longer.flip(0), ids[:, :1]], dim=1)})
    cache = DynamicCache()
    assert prompts.begins({"input_ids": ids, "past_key_values": cache})
    cache.update(torch.zeros(2, 1, 2, 1), torch.zeros(2, 1, 2, 1), 0)
    assert not prompts.begins({"input_ids": ids[:, :1], "past_key_values": cache})


def test_encodings_leave_no_trace_in_any_order() -> None:
    model, inputs = model_of("llava")
    owner = model.base_model
    before, signature = dict(vars(owner)), inspect.signature(owner.get_image_features)
    first, second = Encodings(model), Encodings(model)
    first.__enter__()
    second.__enter__()
    assert inspect.signature(owner.get_image_features) == signature
    output = owner.get_image_features(inputs["pixel_values"], return_dict=True)
    first.__exit__()
    doubled = second.again(output, lambda given: {**given, "pixel_values": given["pixel_values"] * 2})
    expected = owner.get_image_features(inputs["pixel_values"] * 2, return_dict=True)
    for one, other in zip(doubled.pooler_output, expected.pooler_output, strict=True):
        assert torch.equal(one, other)
    assert second.again(object(), lambda given: given) is None
    second.__exit__()
    assert vars(owner) == before


def test_named_inputs_and_last_positions() -> None:
    model = tiny_mllm.build("llava")
    assert list(named_inputs(model, (1, 2), {"use_cache": True})) == ["input_ids", "pixel_values", "use_cache"]
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    kwargs: dict[str, Any] = {"input_ids": mask, "attention_mask": mask}
    assert last_positions(kwargs, torch.zeros(2, 3, 5)).tolist() == [1, 2]
    assert last_positions(kwargs, torch.zeros(2, 1, 5)).tolist() == [0, 0]


def test_the_driver_holds_the_head() -> None:
    llava, blip = tiny_mllm.build("llava"), tiny_mllm.build("instructblip")
    assert driver_of(llava, "x") is llava
    assert driver_of(blip, "x") is not blip
    assert any(child is blip.get_output_embeddings() for child in driver_of(blip, "x").children())
