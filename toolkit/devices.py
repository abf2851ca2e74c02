"""Which device and which number format to compute in. Nothing falls back in silence: what was asked for and is not there is an error."""

from __future__ import annotations

import torch

from toolkit.errors import MissingError, UsageError, unknown_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``.

    Args:
        name: ``"auto"`` (the first accelerator, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    Raises: UsageError: for any other name. MissingError: if this machine has no such device.
    """
    text = str(name)
    if text == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(kind)
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in text and not (index.isdecimal() and kind != "cpu")):
        raise unknown_name("device", text, ("auto", "cpu", "cuda", "cuda:0", "mps"))
    hint = "use --device auto or --device cpu"
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= count:
            present = f"this machine has {count}" if count else "this machine has none that PyTorch can use"
            raise MissingError(f"the device {text!r} was asked for, and of CUDA devices {present}", hint=hint)
    if kind == "mps" and (int(index or 0) > 0 or not torch.backends.mps.is_available()):
        raise MissingError(f"the device {text!r} was asked for, and this machine has none", hint=hint)
    return torch.device(text)


def pick_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The number format called ``name`` for models on ``device``.

    Args:
        name: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``. ``"auto"`` is bfloat16 on CUDA devices with hardware
            for it, float16 on other accelerators, float32 on the CPU.
    Raises: UsageError: for any other name, and for float16 on the CPU, where it is slow and overflows.
    """
    text = str(name).removeprefix("torch.")
    if text == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if device.type == "cuda" and _has_bfloat16(device) else torch.float16
    if text not in DTYPES:
        raise unknown_name("dtype", text, ("auto", *DTYPES))
    if text == "float16" and device.type == "cpu":
        raise UsageError("float16 on the CPU is slow and overflows", hint="use --dtype float32 or --dtype bfloat16")
    return DTYPES[text]


def _has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)
