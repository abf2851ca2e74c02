"""Frozen language models that write text, through transformers: causal ones, and the language side of image-text models."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import DependencyMissing, ModelConfigError, ModelNotFound, UsageError
from toolkit.models import weights
from toolkit.models.registry import parse_name

if TYPE_CHECKING:
    import torch

HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
HINT = "give a causal or an image-text model in the format of transformers: local:DIR or hf:REPO"

_log = logging.getLogger(__name__)


class LanguageModel:
    """A model and its tokenizer. ``chat`` says whether it was trained on conversations, so that questions can be asked as such.

    Attributes:
        fingerprint: sha256 (hex) of its configuration, its tokenizer and the names and sizes of its weights.
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
        quantise: 4 or 8 bits for the weights, on CUDA devices; None leaves them as they are.
    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError, UsageError. It never gives a random or partly random model.
    """
    from toolkit.devices import pick_device, pick_dtype

    place = pick_device(device)
    folder = _folder(name, offline)
    weights.refuse_remote_code(folder)
    weights.find_weights(folder, ["model.safetensors"], [], allow_pickle=False)
    settings: dict[str, Any] = {"dtype": pick_dtype(dtype, place), "local_files_only": True, "use_safetensors": True}
    if quantise is not None:
        settings |= _quantised(quantise, place, settings["dtype"])
    module = _load(folder, settings)
    if quantise is None:
        module.to(place)
    module.eval().requires_grad_(False)
    tokenizer, chat = _tokenizer(folder)
    return LanguageModel(name, module, tokenizer, chat=chat, fingerprint=_fingerprint(folder, quantise, str(settings["dtype"])))


def _folder(name: str, offline: bool) -> Path:
    parsed = parse_name(name)
    if parsed.scheme == "local":
        folder = Path(parsed.target).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelNotFound(f"{folder} holds no config.json", hint=HINT)
        return folder
    if parsed.scheme != "hf":
        raise UsageError(f"{name} is an image-text encoder and writes no text", hint=HINT)
    from toolkit.models.hub import fetch_configuration, fetch_model_files

    folder = fetch_configuration(parsed.target, parsed.extra, offline=offline)
    return fetch_model_files(parsed.target, folder.name, [*HUB_FILES, "model*.safetensors"], offline=offline)


def _quantised(bits: int, place: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if place.type != "cuda":
        raise UsageError(
            f"weights of {bits} bits need a CUDA device, and this is {place}", hint="leave --load-in-4bit and --load-in-8bit away"
        )
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise DependencyMissing("quantised weights need the package bitsandbytes", hint="pip install bitsandbytes") from error
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype} if bits == 4 else {"load_in_8bit": True}
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": place}}


def _load(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The model as the class that writes text, with all its weights from the folder."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelConfigError(f"{folder} is of a kind that transformers does not know: {_first(error)}", hint=HINT) from error
    classes = [kind for kind in (AutoModelForImageTextToText, AutoModelForCausalLM) if type(config) in kind._model_mapping]
    if not classes:
        raise ModelConfigError(f"{folder} is a {config.model_type} model, which writes no text", hint=HINT)
    try:
        module, info = classes[0].from_pretrained(folder, config=config, output_loading_info=True, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelConfigError(f"{folder} cannot be loaded: {_first(error)}") from error
    missing = sorted(info["missing_keys"]) + [str(key) for key in info.get("mismatched_keys", ())]
    if missing:
        raise ModelConfigError(f"{folder} lacks {len(missing)} weights, the first is {missing[0]}: the model would be random in part")
    return module


def _tokenizer(folder: Path) -> tuple[Any, Any]:
    """The tokenizer, and what applies the chat template: itself, the processor, or None where there is no template."""
    from transformers import AutoProcessor, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelConfigError(f"{folder} has no usable tokenizer: {_first(error)}") from error
    if tokenizer.chat_template:
        return tokenizer, tokenizer
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        return tokenizer, processor if getattr(processor, "chat_template", None) else None
    return tokenizer, None


def _fingerprint(folder: Path, quantise: int | None, dtype: str) -> str:
    from toolkit.config import fingerprint

    config = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.safetensors"))}
    return fingerprint(config, weights.hash_tokenizer(folder), sizes, quantise, dtype)


def _first(error: Exception) -> str:
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
