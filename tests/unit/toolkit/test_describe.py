"""Descriptions from a language model: what it is asked, how answers are read, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.test_cli_eval import call
from toolkit.describe import DescribeOptions, describe, following_names, nearest_names, opening, parse, question
from toolkit.errors import DataError, ModelConfigError, ModelNotFound, UnsafeLoadError, UsageError
from toolkit.files import read_json, read_jsonl
from toolkit.methods.descriptions.pool import load_pool
from toolkit.models.language import load_language_model

NAMES = ("copper fox", "grey wolf", "dog")
TEMPLATE = "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }}{% endfor %} <assistant>"


WORDS = [
    "soft",
    "fur",
    "long",
    "ears",
    "tail",
    "round",
    "dark",
    "legs",
    "pale",
    "eyes",
    "small",
    "striped",
    "thin",
    "wide",
    "nose",
    "-",
    "\n",
]


def word_tokenizer(template: str | None = None) -> Any:
    """One token a word; all else is unknown."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate(["<pad>", "<eos>", "<image>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    lines = pre_tokenizers.Split(Regex(r"\n|-"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Split(" ", "removed")])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    made.chat_template = template
    return made


def stir(model: Any) -> Any:
    """Weights from a seed, so that greedy answers differ with the prompt."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            weight.copy_(torch.randn(weight.shape, generator=generator) * (0.3 if weight.ndim > 1 else 0.05) + (weight.ndim == 1))
    return model


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 4 + len(WORDS)}


def tiny_causal(folder: Path, template: str | None = None) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    stir(LlamaForCausalLM(LlamaConfig(**SIZES, pad_token_id=0, eos_token_id=1, bos_token_id=1))).save_pretrained(folder)
    word_tokenizer(template).save_pretrained(folder)
    return folder


def tiny_image_text(folder: Path) -> Path:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    small = {name: SIZES[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")}
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=8)
    text = LlamaConfig(**SIZES, pad_token_id=0, eos_token_id=1, bos_token_id=1)
    stir(LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=2))).save_pretrained(folder)
    word_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal(tmp_path_factory.mktemp("causal"))


class Writer:
    """Answers from a table; keeps what it was asked. Stops with an exception after ``patience`` answers."""

    name, fingerprint, chat = "table", "1", True

    def __init__(self, answers: dict[tuple[str, str], str] | None = None, patience: int = 99) -> None:
        self.answers, self.patience = answers or {}, patience
        self.asked: list[str] = []

    def write(self, prompt: str, *, max_new_tokens: int = 200, temperature: float = 0.0, seed: int = 0) -> str:
        if len(self.asked) >= self.patience:
            raise KeyboardInterrupt
        self.asked.append(prompt)
        for (name, rival), answer in self.answers.items():
            if f"{name!r} and {rival!r}. " in prompt:
                return answer
        return f"- look {len(self.asked)} of it\n- soft fur"


def test_prompts_contrast_the_class_with_its_rival() -> None:
    options = DescribeOptions(about="camera trap photos", texts=4)
    for prompt in (question("copper fox", "dog", options), opening("copper fox", "dog", options)):
        assert prompt.index("'copper fox'") < prompt.rindex("'dog'")
        assert "camera trap photos" in prompt
    assert "List 4 things" in question("copper fox", "dog", options)
    assert opening("copper fox", "dog", options).endswith("\n-")


@pytest.mark.parametrize(
    ("answer", "chat", "expected"),
    [
        ("Sure! Here they are:\n- a long tail\n* **pointed ears**\n\u2022 white chest.\n3) It has dark legs\nGood luck!", True,
         ["a long tail", "pointed ears", "white chest", "dark legs"]),
        (" a long tail\n- pointed ears\n\nWhat can be seen next?\n- no", False, ["a long tail", "pointed ears"]),
        ("- " + "word " * 21 + "\n- ok\n-\n- \"quoted text\"", True, ["quoted text"]),
        ("nothing like a list", True, []),
        ("- a   wide    gap", True, ["a wide gap"]),
        ("", False, []),
    ],
)  # fmt: skip
def test_answers_are_read(answer: str, chat: bool, expected: list[str]) -> None:
    assert parse(answer, chat=chat) == expected


def test_the_pool_is_linted_and_loads(tmp_path: Path) -> None:
    rivals = {"copper fox": ["dog"], "grey wolf": ["dog", "copper fox"], "dog": ["copper fox"]}
    model = Writer(
        {
            ("copper fox", "dog"): "- a bushy tail\n- fur of copper\n- an orange copper fox\n- A bushy tail.\n- often orange",
            ("grey wolf", "dog"): "- a dog on a leash\n- long legs\n- a smell of earth",
            ("grey wolf", "copper fox"): "- pale eyes",
            ("dog", "copper fox"): "- a collar\n- floppy ears",
        }
    )
    done = describe(model, NAMES, rivals, tmp_path / "pool.json")
    assert done.pool == {"copper fox": ["a bushy tail"], "grey wolf": ["long legs", "pale eyes"], "dog": ["a collar", "floppy ears"]}
    assert done.removed == {"L2": 1, "L3": 2, "L4": 1, "L6": 1, "L7": 1}
    assert done.empty == []
    assert read_json(tmp_path / "pool.json") == done.pool
    assert load_pool(tmp_path / "pool.json", NAMES).by_class()["dog"] == ("a collar", "floppy ears")
    head, *answers = read_jsonl(done.answers)
    assert (head["model"], len(answers)) == ("table", 4)


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    rivals = following_names(NAMES, 2)
    whole = describe(Writer(), NAMES, rivals, tmp_path / "whole.json")
    out = tmp_path / "pool.json"
    with pytest.raises(KeyboardInterrupt):
        describe(Writer(patience=2), NAMES, rivals, out)
    assert not out.exists()
    with (tmp_path / "pool.json.answers.jsonl").open("a") as file:
        file.write('{"class": "red f')  # what a kill leaves
    second = Writer()
    second.asked = ["", ""]  # its answers count on
    done = describe(second, NAMES, rivals, out)
    assert len(second.asked) == 6
    assert done.pool == whole.pool
    third = Writer(patience=0)
    assert describe(third, NAMES, rivals, out).pool == whole.pool
    with pytest.raises(UsageError, match="other questions"):
        describe(Writer(), NAMES, rivals, out, DescribeOptions(texts=2))
    assert describe(Writer(), NAMES, rivals, out, DescribeOptions(texts=2), resume=False).pool == whole.pool


def test_classes_without_texts_are_told_and_a_pool_without_any_is_an_error(tmp_path: Path) -> None:
    rivals = {"copper fox": ["dog"], "grey wolf": ["dog"], "dog": ["copper fox"]}
    some = Writer({("grey wolf", "dog"): "I cannot help with that."})
    assert describe(some, NAMES, rivals, tmp_path / "some.json").empty == ["grey wolf"]
    none = Writer({(name, other[0]): "no" for name, other in rivals.items()})
    with pytest.raises(DataError, match="no answer holds"):
        describe(none, NAMES, rivals, tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
    with pytest.raises(UsageError, match="only one"):
        describe(some, ["dog", "dog"], {}, tmp_path / "one.json")


def test_rivals_by_captions() -> None:
    class Encoder:
        def encode_texts(self, texts: list[str]) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])

    found = nearest_names(Encoder(), NAMES, 1)  # type: ignore[arg-type]
    assert found == {"copper fox": ["grey wolf"], "grey wolf": ["copper fox"], "dog": ["grey wolf"]}


@pytest.mark.parametrize("kind", ["causal", "chat", "image-text"])
def test_real_models_write(kind: str, causal: Path, tmp_path: Path) -> None:
    folder = {"causal": lambda: causal, "chat": lambda: tiny_causal(tmp_path, TEMPLATE), "image-text": lambda: tiny_image_text(tmp_path)}
    model = load_language_model(f"local:{folder[kind]()}", device="cpu")
    assert model.chat is (kind != "causal")
    state = torch.get_rng_state()
    first = model.write("soft fur", max_new_tokens=12)
    assert first == model.write("soft fur", max_new_tokens=12)
    assert first != model.write("long ears", max_new_tokens=12)
    hot = [model.write("soft fur", max_new_tokens=12, temperature=2.0, seed=seed) for seed in (0, 0, 1)]
    assert hot[0] == hot[1] != hot[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(weight.requires_grad for weight in model.module.parameters())


def test_the_command_line_with_a_tiny_model(causal: Path, tmp_path: Path, photos: Path, tiny_model: Path) -> None:
    classes = "black cat,red bag,white dog"
    arguments = ["-m", f"local:{causal}", "--max-new-tokens", "60", "--temperature", "1.5", "--device", "cpu", "--json"]
    done = call("describe", classes, *arguments, "-o", tmp_path / "pool.json", "--encoder", "none")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    pool = read_json(tmp_path / "pool.json")
    assert list(pool) == classes.split(",")
    assert facts["texts"] == sum(map(len, pool.values())) > 0
    call("eval", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--output", tmp_path / "run", "--no-report")
    done = call("describe", classes, *arguments, "-o", tmp_path / "confused.json", "--run", tmp_path / "run", "--rivals", "1")
    assert done.exit_code == 0, done.stderr
    done = call("describe", classes, *arguments, "-o", tmp_path / "near.json", "--encoder", f"local:{tiny_model}")
    assert done.exit_code == 0, done.stderr
    done = call("describe", "a,b", *arguments, "-o", tmp_path / "x.json", "--run", tmp_path / "run")
    assert (done.exit_code, "other classes" in done.stderr) == (2, True)
    done = call("describe", "eurosatt", *arguments, "-o", tmp_path / "x.json")
    assert (done.exit_code, "'eurosat'" in done.stderr) == (2, True)


def test_models_that_cannot_be_used(causal: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load_language_model(f"local:{tmp_path}")
    with pytest.raises(UsageError, match="writes no text"):
        load_language_model("pocket-clip")
    with pytest.raises(ModelConfigError, match="writes no text"):
        load_language_model(f"local:{tiny_model}")
    with pytest.raises(UsageError, match="3 bits"):
        load_language_model(f"local:{causal}", device="cpu", quantise=3)
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text((causal / "config.json").read_text())
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeLoadError):
        load_language_model(f"local:{folder}")


def test_a_model_with_missing_weights_is_refused(causal: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in causal.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(causal / "model.safetensors")
    tensors.pop(next(name for name in tensors if "mlp" in name))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelConfigError, match="random in part"):
        load_language_model(f"local:{tmp_path}", device="cpu")


@pytest.mark.parametrize("wrong", [{"texts": 0}, {"rivals": True}, {"temperature": -1}, {"about": " "}, {"max_new_tokens": 1.5}])
def test_impossible_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DescribeOptions(**wrong)
