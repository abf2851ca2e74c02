"""Frozen language models that write text, through transformers: causal ones, and the language side of image-text models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.config import fingerprint
from toolkit.errors import ModelConfigError, UsageError
from toolkit.models import generative
from toolkit.models.library import first_line
from toolkit.models.registry import find_folder, parse_name

if TYPE_CHECKING:
    import torch

KINDS = ("AutoModelForImageTextToText", "AutoModelForCausalLM")
HINT = "give a causal or an image-text model in the format of transformers: local:DIR or hf:REPO"


class LanguageModel:
    """A model and its tokenizer. ``chat`` says whether it was trained on conversations, so that questions can be asked as such.

    Attributes:
        fingerprint: sha256 (hex) over its weights, configuration, tokenizer, quantisation and dtype.
    """

    def __init__(self, name: str, module: Any, tokenizer: Any, *, chat: Any, fingerprint: str) -> None:
        self.name, self.module, self.tokenizer, self.fingerprint = name, module, tokenizer, fingerprint
        self._chat = chat

    @property
    def chat(self) -> bool:
        return self._chat is not None

    def write(self, prompt: str, *, max_new_tokens: int = 200, temperature: float = 0.0, seed: int = 0) -> str:
        """What the model writes after ``prompt``: an answer, where it knows conversations, else a continuation.

        Args:
            temperature: 0 takes the likeliest token each time. seed: of sampling; the global random state is left as it was.
        """
        import torch

        inputs = self._encode(prompt)
        length = inputs["input_ids"].shape[1]
        sampling: dict[str, Any] = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature}
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        devices = [self.module.device] if self.module.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(seed)
            tokens = self.module.generate(**inputs, max_new_tokens=max_new_tokens, pad_token_id=pad, **sampling)
        return str(self.tokenizer.decode(tokens[0, length:], skip_special_tokens=True))

    def _encode(self, prompt: str) -> dict[str, torch.Tensor]:
        if self._chat is None:
            found = self.tokenizer(prompt, return_tensors="pt")
        else:
            content: Any = prompt if self._chat is self.tokenizer else [{"type": "text", "text": prompt}]
            found = self._chat.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        known = {key: value for key, value in found.items() if key in ("input_ids", "attention_mask")}
        return {key: value.to(self.module.device) for key, value in known.items()}


def load_language_model(
    name: str, *, device: str = "auto", dtype: str = "auto", offline: bool = False, quantise: int | None = None
) -> LanguageModel:
    """A frozen language model by name, with safetensors weights and without code of its own.

    Args:
        name: ``local:DIR`` or ``hf:REPO[@REVISION]``.
        quantise: 4 or 8 bits for the weights of the decoder's layers; None leaves them as they are.
    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError, UsageError. It never gives a random or partly random model.
    """
    parsed = parse_name(name)
    if parsed.scheme == "open_clip" or name == "pocket-clip":
        raise UsageError(f"{name} is an image-text encoder and writes no text", hint=HINT)
    folder = find_folder(parsed, offline=offline, allow_pickle=False)
    loaded = generative.load_folder(folder, KINDS, device=device, dtype=dtype, quantise=quantise, hint=HINT)
    tokenizer, chat = _tokenizer(folder)
    return LanguageModel(name, loaded.module, tokenizer, chat=chat, fingerprint=fingerprint(loaded.identity))


def _tokenizer(folder: Path) -> tuple[Any, Any]:
    """The tokenizer, and what applies the chat template: itself, the processor, or None where there is no template."""
    from transformers import AutoProcessor, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelConfigError(f"{folder} has no usable tokenizer: {first_line(error)}") from error
    if tokenizer.chat_template:
        return tokenizer, tokenizer
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        return tokenizer, processor if getattr(processor, "chat_template", None) else None
    return tokenizer, None
