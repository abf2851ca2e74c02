"""What cannot be exact is refused in one sentence, before anything is generated, and the model is as before."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch

from tests import tiny_mllm
from tests.attention_cases import inputs_of, model_of, snapshot
from toolkit.attention import AttentionSession, LayerEdit, Prefill
from toolkit.errors import Refused, SiteNotFound, UsageError


def edit(prefill: Prefill) -> LayerEdit:
    return LayerEdit(logit_bias=-2.0 * prefill.image_mask)


@pytest.fixture
def llava() -> Any:
    model = model_of("llava")
    before = snapshot(model)
    yield model
    assert snapshot(model) == before


def refused(model: Any, inputs: dict[str, Any], message: str, hint: str, **options: Any) -> None:
    """``generate`` raises Refused with this message and hint, and no token comes out."""
    with AttentionSession(model) as session:
        session.read([1, 2])
        session.at_layer(3, edit)
        with pytest.raises(Refused, match=message) as caught:
            model.generate(**inputs, max_new_tokens=4, **options)
    assert hint in str(caught.value.hint)


def test_a_prompt_without_image_tokens(llava: Any) -> None:
    text = {"input_ids": torch.randint(16, 500, (2, 8)), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
    refused(llava, text, "no image token in the prompt of row 0, 1", 'on_no_image="skip"')
    mixed = inputs_of("llava", 2)
    mixed["input_ids"][1][mixed["input_ids"][1] == tiny_mllm.IMAGE] = 99
    mixed["pixel_values"] = mixed["pixel_values"][:1]
    refused(llava, mixed, "no image token in the prompt of row 1", 'on_no_image="skip"')
    plain = llava.generate(**text, max_new_tokens=4)
    with AttentionSession(llava, on_no_image="skip") as session:
        rows = session.read([2])
        session.at_layer(3, lambda prefill: pytest.fail("asked about a prompt without images"))
        assert torch.equal(llava.generate(**text, max_new_tokens=4), plain)
    assert session.prefill is not None
    assert session.prefill.has_image.tolist() == [False, False]
    assert rows[2].shape == (2, 4, 8)


def test_a_cache_that_is_not_empty(llava: Any) -> None:
    inputs = inputs_of("llava", 1)
    with torch.no_grad():
        cache = llava(**inputs, use_cache=True).past_key_values
        more = {"input_ids": torch.randint(16, 500, (1, 3)), "attention_mask": torch.ones(1, inputs["input_ids"].shape[1] + 3)}
        with AttentionSession(llava) as session:
            session.read([1])
            with pytest.raises(Refused, match="goes on from a cache of 47 tokens"):
                llava(**more, past_key_values=copy.deepcopy(cache))
            one = {"input_ids": more["input_ids"][:, :1], "attention_mask": more["attention_mask"][:, :-2]}
            with pytest.raises(Refused, match="whose prompt has not been seen"):
                llava(**one, past_key_values=copy.deepcopy(cache))
            llava(**inputs_of("llava", 1, words=5))
            with pytest.raises(Refused, match="does not go on from the last prompt"):
                llava(**one, past_key_values=copy.deepcopy(cache))


def test_a_prompt_in_chunks(llava: Any) -> None:
    inputs = inputs_of("llava", 1)
    refused(llava, inputs, "read in chunks", "leave prefill_chunk_size out", prefill_chunk_size=16)
    if "mm_encoder_outputs" not in inspect.signature(llava.forward).parameters:
        return  # in older versions of transformers no images could be given to a prompt in chunks
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    options = copy.deepcopy(llava.generation_config)
    options.prefill_chunk_size, options.max_new_tokens = 16, 4
    with torch.no_grad():
        features = llava.model.get_image_features(inputs["pixel_values"], vision_feature_layer=-2, vision_feature_select_strategy="default")
    with AttentionSession(llava) as session:
        session.read([1])
        with pytest.raises(Refused, match="read in chunks"):
            llava.generate(**text, mm_encoder_outputs={"image": features}, generation_config=options)


def test_assisted_decoding(llava: Any) -> None:
    inputs = inputs_of("llava", 1)
    refused(llava, inputs, "assisted decoding", "without assistant", prompt_lookup_num_tokens=3)
    assistant = tiny_mllm.build("llava", seed=1)
    refused(llava, inputs, "assisted decoding", "without assistant", assistant_model=assistant)


def test_generating_without_a_cache(llava: Any) -> None:
    refused(llava, inputs_of("llava", 1), "without a cache", "use_cache=True", use_cache=False)


def test_compiled_decoding() -> None:
    """``generate`` compiles steps by itself on accelerators; here it is asked to on the CPU. It must not, or must not edit."""
    from transformers.generation.configuration_utils import CompileConfig

    llava = tiny_mllm.build("llava")
    compiling = CompileConfig()
    compiling._compile_all_devices = True
    # In place of what it would compile, which is never called: the refusal comes in the prompt.
    llava._compiled_call, llava._last_compile_config = pytest.fail, compiling
    options = {"cache_implementation": "static", "compile_config": compiling}
    inputs = inputs_of("llava", 1)
    refused(llava, inputs, "compiled decoding", "disable_compile=True", disable_compile=False, **options)
    with AttentionSession(llava) as session:
        session.at_layer(3, edit)
        assert llava.generation_config.disable_compile is True
        assert not llava._valid_auto_compile_criteria({"past_key_values": None}, llava.generation_config)
    assert llava.generation_config.disable_compile is None
    with AttentionSession(llava) as session:  # what only reads prompts lets decoding be compiled
        session.read([1])
        assert llava.generation_config.disable_compile is None


def test_two_sessions_keep_compiling_off_until_both_are_gone(llava: Any) -> None:
    first, second = AttentionSession(llava), AttentionSession(llava)
    first.at_layer(2, edit)
    second.at_layer(2, edit)
    first.__enter__()
    second.__enter__()
    first.close()
    assert llava.generation_config.disable_compile is True
    second.close()
    assert llava.generation_config.disable_compile is None


def test_flex_attention_and_unknown_implementations(llava: Any) -> None:
    text = llava.config.get_text_config()
    for name, message in (("flex_attention", "flex attention"), ("paged|eager", "'paged|eager' is not supported"), ("own", "'own' is not")):
        text._attn_implementation_internal = name
        try:
            with pytest.raises(Refused, match=message.replace("|", r"\|")) as caught:
                AttentionSession(llava).__enter__()
            assert 'attn_implementation="sdpa"' in str(caught.value.hint)
            assert text._attn_implementation == name
        finally:
            text._attn_implementation_internal = "sdpa"


@pytest.mark.parametrize("option", ["s_aux", "position_bias", "cache", "cu_seq_lens_q"])
def test_kernels_with_more_than_queries_and_keys(llava: Any, option: str) -> None:
    from toolkit.attention.registry import Call
    from toolkit.attention.rows import Keys

    states = torch.zeros(1, 1, 2, 4)
    keys = Keys(0, 0, 2, True)
    call = Call("sdpa", llava.get_decoder().layers[0].self_attn, (states, states, states), None, None, {option: torch.zeros(1)})
    with pytest.raises(Refused, match="cannot be read exactly"):
        call.place(keys)
    call.options, call.mask = {}, object()
    with pytest.raises(Refused, match="the attention mask is a object"):
        call.place(keys)


def test_a_prompt_longer_than_the_window_of_a_used_layer() -> None:
    model = tiny_mllm.build("gemma3", sliding_window=16)
    for layer in model.get_decoder().layers:
        if layer.self_attn.sliding_window is not None:
            layer.self_attn.sliding_window = 16
    inputs = tiny_mllm.inputs("gemma3", model, 2)
    with AttentionSession(model) as session:
        session.read([1])
        with pytest.raises(Refused, match="layer 1 sees only the last 16 tokens, and the prompt has 22") as caught:
            model(**inputs)
        assert "full attention" in str(caught.value.hint)
    with torch.no_grad(), AttentionSession(model) as session:
        session.read([0, 2])
        model(**inputs)
        session.block([3])
        with pytest.raises(Refused, match="layer 3 sees only"):
            model(**inputs)


def test_images_that_enter_by_cross_attention() -> None:
    model = model_of("mllama")
    inputs = inputs_of("mllama")
    with pytest.raises(Refused, match="layer 3 has no self-attention") as caught:
        AttentionSession(model).read([2, 3])
    assert "cross-attention" in str(caught.value)
    with AttentionSession(model) as session:
        session.read([2])
        with pytest.raises(Refused, match="no image token"):
            model(**inputs)


def test_training_with_gradients(llava: Any) -> None:
    inputs = inputs_of("llava", 1)
    llava.train()
    try:
        with AttentionSession(llava) as session:
            session.read([1])
            with pytest.raises(Refused, match="training mode"):
                llava(**inputs)
            with torch.no_grad():
                llava(**inputs)
    finally:
        llava.eval()


def test_a_layer_that_does_not_exist_and_other_mistakes(llava: Any) -> None:
    session = AttentionSession(llava)
    for call in (lambda: session.read([6]), lambda: session.at_layer(-7, edit), lambda: session.stop_after(6)):
        with pytest.raises(UsageError, match="there is no layer") as caught:
            call()
        assert "0 to 5" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not known"):
        AttentionSession(llava, backend="eager")  # type: ignore[arg-type]
    with pytest.raises(SiteNotFound, match="has no decoder layers"):
        AttentionSession(torch.nn.Linear(2, 2))
    with pytest.raises(UsageError, match="is not a model"):
        AttentionSession("llava")
    with session, pytest.raises(UsageError, match="open already"):
        session.__enter__()
    with torch.no_grad(), AttentionSession(llava) as session:
        session.read([1], query="middle")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="there is no query 'middle'"):
            llava(**inputs_of("llava", 1))
    with torch.no_grad(), AttentionSession(llava) as session:
        session.read([1], query=lambda prefill: torch.tensor([999]))
        with pytest.raises(UsageError, match="not in the prompt"):
            llava(**inputs_of("llava", 1))


def test_the_decoder_by_itself(llava: Any) -> None:
    inputs = inputs_of("llava", 1)
    with torch.no_grad(), AttentionSession(llava) as session:
        session.read([1])
        with pytest.raises(Refused, match="called by itself"):
            llava.get_decoder()(input_ids=inputs["input_ids"])


def test_modelling_code_that_ignores_the_registry(llava: Any) -> None:
    """As remote code does: then no row comes, which is an error, and the hook back-end reads it."""
    import types

    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    attention = llava.get_decoder().layers[2].self_attn

    def forward(self: Any, hidden_states: Any, position_embeddings: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        query, key, value = (part(hidden_states).view(shape).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        key, value = (part.repeat_interleave(2, 1) for part in (key, value))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), None

    inputs = inputs_of("llava", 2)
    with torch.no_grad(), AttentionSession(llava) as session:
        expected = session.read([2])
        llava(**inputs, use_cache=False)
    attention.forward = types.MethodType(forward, attention)
    try:
        with torch.no_grad(), AttentionSession(llava) as session:
            session.read([2])
            with pytest.raises(Refused, match="layer 2 did not pass its attention") as caught:
                llava(**inputs, use_cache=False)
            assert 'backend="hook"' in str(caught.value.hint)
        with torch.no_grad(), AttentionSession(llava, backend="hook") as session:
            rows = session.read([2])
            llava(**inputs, use_cache=False)
    finally:
        del attention.forward
    assert torch.allclose(rows[2], expected[2], atol=1e-6)


def test_a_hook_back_end_without_all_keys() -> None:
    """A sliding cache has dropped keys by the time the hook looks."""
    model = model_of("gemma3")
    inputs = inputs_of("gemma3", 1, words=60)
    longer = torch.cat([inputs["input_ids"], inputs["input_ids"][:, -3:]], 1)
    with torch.no_grad(), AttentionSession(model, backend="hook", on_no_image="skip") as session:
        session.read([0], query="first_generated")
        assert longer.shape[1] > 60
        model.generate(**inputs, max_new_tokens=2, min_new_tokens=2)
    assert session.prefill is not None
