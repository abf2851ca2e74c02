from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from toolkit import sites
from toolkit.errors import ShapeError, SiteNotFound, UsageError
from toolkit.hooks import HookSession, aside, is_aside

SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
IMAGE = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)


@pytest.fixture
def clip() -> nn.Module:
    text = {**SMALL, **SPECIAL, "vocab_size": 50, "max_position_embeddings": 12}
    config = transformers.CLIPConfig(text_config=text, vision_config={**SMALL, "image_size": 16, "patch_size": 8}, projection_dim=8)
    torch.manual_seed(0)
    return transformers.CLIPModel(config).eval()


@pytest.fixture
def llama() -> nn.Module:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL, **SPECIAL, vocab_size=50)).eval()


def embed(model: nn.Module) -> Tensor:
    output = model.get_image_features(IMAGE)  # type: ignore[operator]
    return output if isinstance(output, Tensor) else output.pooler_output


def hooks_on(model: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def test_reading_gives_what_the_library_reports(clip: nn.Module) -> None:
    with torch.no_grad():
        states = clip.get_submodule("vision_model")(IMAGE, output_hidden_states=True).hidden_states
        of_the_library = hooks_on(clip)  # it reports hidden states by hooks of its own, which stay
        with HookSession(clip) as session:
            read = [session.read(f"vision.block:{layer}") for layer in range(3)]
            embed(clip)
            embed(clip)
    assert [len(captured) for captured in read] == [2, 2, 2]
    for captured, state in zip(read, states[1:], strict=True):
        assert torch.equal(captured.last, state)
        assert torch.equal(captured[0], captured[1])
    read[0].clear()
    assert list(read[0]) == []
    assert hooks_on(clip) == of_the_library


def test_what_is_read_has_no_gradient_and_is_a_copy(clip: nn.Module) -> None:
    norm = sites.resolve(clip, "vision.norm")
    handle = norm.register_forward_hook(lambda module, args, output: output.mul_(0) if not torch.is_grad_enabled() else None)
    with HookSession(clip) as session:
        block, pooled = session.read("vision.block:-1", cpu=True), session.read("vision.norm")
        assert embed(clip).requires_grad
        assert not block.last.requires_grad
        assert not pooled.last.requires_grad
        with torch.no_grad():
            before = session.read("vision.norm")
            embed(clip)
    handle.remove()
    assert before.last.abs().sum() == 0, "other people's hooks come first if they were there first"
    assert block.last.data_ptr() != block[0].data_ptr()


def test_a_copy_survives_writing_in_place() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    model = nn.Module()
    model.model = nn.Module()
    model.model.embed_tokens = nn.Embedding(2, 2)
    model.model.layers = nn.ModuleList([Block(), nn.ReLU(inplace=True)])
    model.forward = lambda x: model.model.layers[1](model.model.layers[0](x))  # type: ignore[method-assign]
    with HookSession(model) as session:
        read = session.read("lm.block:0")
        model(torch.tensor([-5.0, 3.0]))
    assert read.last.tolist() == [-4.0, 4.0]


def test_editing_changes_the_result_and_only_inside_the_block(clip: nn.Module) -> None:
    with torch.no_grad():
        plain = embed(clip)
        with HookSession(clip) as session:
            session.edit("vision.proj", lambda output: output * 2)
            assert torch.equal(embed(clip), plain * 2)
            session.edit("vision.proj", lambda output: output + 1)
            read = session.read("vision.proj")
            assert torch.equal(embed(clip), plain * 2 + 1)
            assert torch.equal(read.last, plain * 2 + 1), "actions on one site happen in the order of the calls"
        assert torch.equal(embed(clip), plain)


def test_the_identity_edit_changes_nothing(clip: nn.Module) -> None:
    with torch.no_grad():
        plain = embed(clip)
        for site in sites.known_sites(clip):
            if not site.startswith("vision"):
                continue
            layered = sites.known_sites(clip)[site]
            for layer in range(layered) if layered else [None]:
                with HookSession(clip) as session:
                    session.edit(sites.Site(site, layer), lambda output: output.clone())
                    assert torch.equal(embed(clip), plain)


def test_attention_returns_a_tuple_and_keeps_it(clip: nn.Module) -> None:
    with torch.no_grad(), HookSession(clip) as session:
        session.edit("vision.attn:1", torch.zeros_like)
        inside, outside = session.read("vision.attn:1"), session.read("vision.block:1")
        embed(clip)
    assert inside.last.shape == (1, 5, 16)
    assert inside.last.abs().sum() == 0
    assert outside.last.abs().sum() > 0


Pair = namedtuple("Pair", ["hidden", "weights"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (x, None), lambda x: [None, x], lambda x: {"a": None, "b": x}, lambda x: Pair(x, None),
        lambda x: transformers.modeling_outputs.BaseModelOutput(last_hidden_state=x),
    ],
    ids=["tuple", "list", "dict", "namedtuple", "ModelOutput"],
)  # fmt: skip
def test_every_kind_of_output_keeps_its_kind(llama: nn.Module, wrap: Callable[[Tensor], Any]) -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return wrap(x)

    llama.get_submodule("model").norm = Norm()
    norm = sites.resolve(llama, "lm.norm")
    with HookSession(llama) as session:
        session.edit("lm.norm", lambda output: output + 1)
        result = norm(torch.zeros(2))
    assert type(result) is type(wrap(torch.zeros(2)))
    values = [item for item in (result.values() if hasattr(result, "values") else result) if item is not None]
    assert [value.tolist() for value in values] == [[1.0, 1.0]]


@pytest.mark.parametrize(
    "edit",
    [lambda x: x[:, :1], lambda x: x.double(), lambda x: x.to("meta"), lambda x: None, lambda x: 3],
    ids=["shape", "dtype", "device", "None", "int"],
)
def test_an_edit_that_changes_shape_dtype_or_device_is_refused(clip: nn.Module, edit: Callable[[Tensor], Any]) -> None:
    session = HookSession(clip)
    session.edit("vision.block:0", edit)
    with pytest.raises(ShapeError, match=r"an edit at vision\.block:0 gave .*; expected float32 of shape \(1, 5, 16\) on cpu"), session:
        embed(clip)
    assert hooks_on(clip) == 0


def test_a_module_without_a_tensor_is_said(llama: nn.Module) -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "nothing"

    llama.get_submodule("model").norm = Norm()
    session = HookSession(llama)
    session.read("lm.norm")
    with pytest.raises(ShapeError, match="a module returned a str"), session:
        sites.resolve(llama, "lm.norm")(torch.zeros(1))


def test_stopping_early_computes_nothing_behind(clip: nn.Module) -> None:
    session = HookSession(clip)
    session.stop_after("vision.block:1")
    first, second = session.read("vision.block:1"), session.read("vision.block:2")
    with torch.no_grad(), session:
        assert session.run(embed, clip) is None
        assert session.run(len, "abc") == 3
        assert (len(first), len(second)) == (1, 0)
        embed(clip)
        pytest.fail("the stop ends the block")
    assert (len(first), len(second)) == (2, 0)
    assert hooks_on(clip) == 0
    with torch.no_grad():
        assert embed(clip).shape == (1, 8)


def test_a_stop_of_an_outer_session_is_not_swallowed_by_an_inner_one(clip: nn.Module) -> None:
    reached = []
    with HookSession(clip) as outer:
        outer.stop_after("vision.block:0")
        with HookSession(clip) as inner:
            inner.read("vision.block:0")
            inner.run(embed, clip)
            reached.append("behind the inner run")
        reached.append("behind the inner block")
    assert reached == []
    assert hooks_on(clip) == 0


def test_generation_calls_a_site_once_a_token(llama: nn.Module) -> None:
    with torch.no_grad(), HookSession(llama) as session:
        read = session.read("lm.block:-1")
        llama.generate(torch.tensor([[0, 5, 6]]), max_new_tokens=4, min_new_tokens=4, do_sample=False)  # type: ignore[operator]
    assert [tuple(tensor.shape) for tensor in read] == [(1, 3, 16), (1, 1, 16), (1, 1, 16), (1, 1, 16)]


def test_other_peoples_hooks_stay(clip: nn.Module) -> None:
    seen: list[str] = []
    module = sites.resolve(clip, "vision.block:0")
    before = module.register_forward_hook(lambda *_: seen.append("before"))
    with torch.no_grad(), HookSession(clip) as session:
        session.read("vision.block:0")
        inside = module.register_forward_hook(lambda *_: seen.append("inside"))
        embed(clip)
    embed(clip)
    assert seen == ["before", "inside", "before", "inside"]
    before.remove()
    inside.remove()
    assert hooks_on(clip) == 0


@pytest.mark.parametrize("error", [RuntimeError("model"), KeyboardInterrupt()])
def test_hooks_go_when_the_model_raises(clip: nn.Module, error: BaseException) -> None:
    def fail(output: Tensor) -> Tensor:
        raise error

    session = HookSession(clip)
    session.edit("vision.block:1", fail)
    with pytest.raises(type(error)), session:
        embed(clip)
    assert hooks_on(clip) == 0


@pytest.mark.parametrize("registered", [0, 1, 2])
def test_ctrl_c_while_registering_leaves_no_hook(clip: nn.Module, monkeypatch: pytest.MonkeyPatch, registered: int) -> None:
    """Also when it comes after the hook is in place and before its handle is returned."""
    original, calls = nn.Module.register_forward_hook, []

    def interrupted(self: nn.Module, hook: Any, **options: Any) -> Any:
        handle = original(self, hook, **options)
        calls.append(handle)
        if len(calls) > registered:
            raise KeyboardInterrupt
        return handle

    session = HookSession(clip)
    for layer in range(3):
        session.read(f"vision.block:{layer}")
    monkeypatch.setattr(nn.Module, "register_forward_hook", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.__enter__()
    monkeypatch.undo()
    assert len(calls) == registered + 1
    assert hooks_on(clip) == 0
    with session:
        assert hooks_on(clip) == 3
    assert hooks_on(clip) == 0


def test_nothing_is_registered_before_the_block_or_for_a_wrong_site(clip: nn.Module) -> None:
    session = HookSession(clip)
    session.read("vision.block:0")
    with pytest.raises(SiteNotFound):
        session.read("vision.blok:0")
    assert hooks_on(clip) == 0
    with pytest.raises(SiteNotFound), session:
        session.read("vision.block:99")
    assert hooks_on(clip) == 0


def test_leaving_twice_is_harmless_and_entering_twice_is_refused(clip: nn.Module) -> None:
    session = HookSession(clip)
    read = session.read("vision.block:0")
    with session:
        with pytest.raises(UsageError, match="open already"):
            session.__enter__()
        assert hooks_on(clip) == 1
        embed(clip)
        session.close()
        assert hooks_on(clip) == 0
        session.close()
    with session:
        embed(clip)
    assert len(read) == 2
    assert hooks_on(clip) == 0


def test_two_sessions_at_once(clip: nn.Module) -> None:
    with torch.no_grad(), HookSession(clip) as first, HookSession(clip) as second:
        one, two = first.read("vision.block:0"), second.read("vision.block:0")
        embed(clip)
        first.close()
        embed(clip)
    assert (len(one), len(two)) == (1, 2)


def test_nothing_captured_is_said(clip: nn.Module) -> None:
    captured = HookSession(clip).read("vision.block:0")
    with pytest.raises(UsageError, match="has not been called"):
        _ = captured.last


def test_weights_are_bit_identical_afterwards(clip: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in clip.state_dict().items()}
    with HookSession(clip) as session:
        session.edit("vision.block:0", lambda output: output * 0)
        embed(clip)
    after = clip.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_inputs_are_seen_and_replaced(clip: nn.Module) -> None:
    """Positional and by keyword, before the module and after the edits of earlier calls."""
    seen: list[tuple[Any, ...]] = []
    with torch.no_grad():
        plain = embed(clip)
        with HookSession(clip) as session:
            session.before("vision.block:1", lambda args, kwargs: seen.append((len(args), sorted(kwargs))))
            session.edit_input("vision.block:1", lambda states: states * 0)
            first = session.read("vision.block:1")
            zeroed = embed(clip)
        assert not torch.equal(plain, zeroed)
        with HookSession(clip) as session:
            session.edit("vision.block:0", lambda states: states * 0)
            assert torch.equal(embed(clip), zeroed)
    assert len(seen) == len(first) == 1
    assert hooks_on(clip) == 0


def test_a_wrong_input_is_an_error(clip: nn.Module) -> None:
    with torch.no_grad(), HookSession(clip) as session:
        session.edit_input("vision.block:1", lambda states: states[:, :1])
        with pytest.raises(ShapeError, match=r"an edit before vision\.block:1 gave"):
            embed(clip)
    assert hooks_on(clip) == 0


def test_whole_outputs_are_seen_after_edits(clip: nn.Module) -> None:
    seen: list[Any] = []
    with torch.no_grad(), HookSession(clip) as session:
        session.after("model", seen.append)
        session.after("vision.block:0", seen.append)
        session.edit("vision.block:0", lambda states: states * 0)
        clip(input_ids=torch.tensor([[0, 5, 6, 7, 1]]), pixel_values=IMAGE)
    block, whole = seen
    block = block[0] if isinstance(block, tuple) else block
    assert float(block.abs().sum()) == 0
    assert hasattr(whole, "logits_per_image")


def test_after_always_is_called_when_the_model_raises(clip: nn.Module) -> None:
    seen: list[Any] = []

    def fail(states: Tensor) -> Tensor:
        raise RuntimeError("in a layer")

    session = HookSession(clip)
    session.after("model", seen.append, always=True)
    session.edit("vision.block:1", fail)
    with session, pytest.raises(RuntimeError, match="in a layer"):
        clip(input_ids=torch.tensor([[0, 5, 6, 7, 1]]), pixel_values=IMAGE)
    assert seen == [None]
    assert hooks_on(clip) == 0
    assert not clip._forward_hooks_always_called


def test_a_pass_aside_sees_no_session(clip: nn.Module) -> None:
    """As a second pass within a first one needs it; only in this thread, and it ends with its block, also by an error."""
    import threading

    elsewhere: list[bool] = []
    with torch.no_grad():
        plain = embed(clip)
        with HookSession(clip) as session:
            read = session.read("vision.block:0")
            session.edit_input("vision.block:1", lambda states: states * 0)
            with aside():
                assert torch.equal(embed(clip), plain)
                thread = threading.Thread(target=lambda: elsewhere.append(is_aside()))
                thread.start()
                thread.join()
                with pytest.raises(RuntimeError, match="inside"), aside():
                    raise RuntimeError("inside")
                assert is_aside()
            assert len(read) == 0
            assert not torch.equal(embed(clip), plain)
            assert len(read) == 1
    assert elsewhere == [False]
    assert not is_aside()
