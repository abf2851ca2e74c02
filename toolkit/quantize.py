"""Weights of 4 and 8 bits through bitsandbytes: which modules, which settings, and a look at the loaded model whether it was so.

Only linear layers inside the decoder blocks are quantised. Vision tower, projector, embeddings and head keep their precision:
they are a small part of the memory and a large part of the error. The list of what is to be left alone holds full module paths
of this very model (toolkit.sites knows the blocks), because a short name in it is ignored without a word by the library.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from toolkit.errors import DependencyMissing, ModelConfigError, UsageError
from toolkit.sites import Site, known_sites, path_of

BITS = (4, 8)
_PACKED_ROWS, _PACKED_COLUMNS = 32, 64
_KINDS = {4: "Linear4bit", 8: "Linear8bitLt"}


@dataclass(frozen=True)
class QuantSpec:
    """How a model is quantised.

    Attributes:
        bits: 4 (NF4, the quantisation constants quantised once more) or 8 (LLM.int8).
        skip: full paths of the modules that keep their precision, with all that is below them.
        targets: full paths of the linear layers that lose it.
        compute_dtype: in which 4-bit weights are multiplied.
    """

    bits: int
    skip: tuple[str, ...]
    targets: tuple[str, ...]
    compute_dtype: torch.dtype = torch.float32

    def config(self) -> Any:
        """The BitsAndBytesConfig for from_pretrained. Raises: DependencyMissing."""
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise DependencyMissing("quantised weights need the package bitsandbytes", hint="pip install bitsandbytes") from error
        from transformers import BitsAndBytesConfig

        skip = list(self.skip)
        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=self.compute_dtype,
            llm_int8_skip_modules=skip,
        )  # fmt: skip


def plan(model: nn.Module, bits: int, compute_dtype: torch.dtype = torch.float32) -> QuantSpec:
    """What to quantise in ``model``, which may be an empty one on the meta device.

    Raises: UsageError: other than 4 or 8 bits. ModelConfigError: no decoder blocks are known here, or they hold no linear layer.
    """
    if bits not in BITS:
        raise UsageError(f"weights of {bits} bits are not on offer", hint="4 or 8")
    blocks = _blocks(model)
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    targets = tuple(name for name in linear if _is_below(name, blocks))
    if not targets:
        raise ModelConfigError(
            f"{type(model).__name__} cannot be quantised: no linear layers were found in decoder blocks that toolkit/sites.py knows",
            hint="leave --load-in-4bit and --load-in-8bit away",
        )
    kept = [name for name in linear if not _is_below(name, blocks)]
    skip = sorted({_topmost(name, blocks) for name in kept})
    return QuantSpec(bits, tuple(skip), targets, compute_dtype)


def settle(model: nn.Module) -> None:
    """Keep bitsandbytes from failing on the CPU: where the processor has bfloat16 dot products it repacks 4-bit weights at the first
    call, in blocks that not every width can be cut into; layers of such widths are told to compute the ordinary way.
    """
    layers: list[Any] = [module for module in model.modules() if type(module).__name__ == _KINDS[4]]
    for layer in layers:
        if layer.out_features % _PACKED_ROWS or layer.in_features % _PACKED_COLUMNS:
            layer.support_avx512bf16_for_cpu = False


def audit(model: nn.Module, spec: QuantSpec) -> dict[str, int]:
    """Look at a loaded model whether exactly ``spec.targets`` were quantised.

    Returns: {"bits", "quantised", "kept"}: the numbers of linear layers.
    Raises: ModelConfigError: another layer was quantised as well, one was not, or none at all.
    """
    found = {name: type(module).__name__ for name, module in model.named_modules() if type(module).__name__ in _KINDS.values()}
    wrong = sorted(name for name, kind in found.items() if name not in spec.targets or kind != _KINDS[spec.bits])
    left = sorted(set(spec.targets) - set(found))
    if wrong:
        raise ModelConfigError(f"{len(wrong)} layers were quantised against the plan, such as {wrong[0]}: the answers would suffer")
    if left:
        raise ModelConfigError(f"{len(left)} of {len(spec.targets)} layers were not quantised to {spec.bits} bits, such as {left[0]}")
    kept = sum(_is_linear(module) for module in model.modules())
    return {"bits": spec.bits, "quantised": len(found), "kept": kept}


def _blocks(model: nn.Module) -> tuple[str, ...]:
    layers = known_sites(model).get("lm.block", 0)
    return tuple(path_of(model, Site("lm.block", layer)) for layer in range(layers))


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear or type(module).__name__ == "Conv1D"  # what the library replaces; subclasses it leaves alone


def _is_below(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def _topmost(name: str, blocks: tuple[str, ...]) -> str:
    """The highest module above ``name`` that holds no decoder block: one entry for a whole vision tower."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        place = ".".join(parts[:length])
        if not any(_is_below(block, [place]) for block in blocks):
            return place
    return name
