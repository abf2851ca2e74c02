"""One-pass contrastive attention against what one would do otherwise: time and memory of a prefill, all in one run.

python -m benchmarks.bench_attention --tokens 641 2369

The model is a LLaVA with random weights, 12 decoder layers of width 512 with 8 heads, in float32 on one thread (a CPU) or in
bfloat16 (a GPU). Extra memory is the peak above what was there before the prefill. Ways:
``plain`` (sdpa), ``ours`` (contrastive attention in mask mode), ``eager``, ``eager_attentions`` (output_attentions=True),
``two_pass`` (eager attentions first, then a masked prefill with sdpa).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("plain", "ours", "eager", "eager_attentions", "two_pass")
IMAGE_TOKENS, WORDS = 576, 65
TARGETS = {"time_against_plain": 1.05, "faster_than_eager_attentions": 2.5, "less_memory_than_eager_attentions": 20.0}


def build_model(attention: str) -> Any:
    """A LLaVA whose decoder is nearly all of the work; 24 x 24 image tokens a picture."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    torch.manual_seed(0)
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**tiny, image_size=336, patch_size=14)
    text = LlamaConfig(vocab_size=1000, hidden_size=512, intermediate_size=1376, num_hidden_layers=12, num_attention_heads=8)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=999)
    model = LlavaForConditionalGeneration(config).eval().requires_grad_(False)
    if torch.cuda.is_available():
        model.to("cuda", torch.bfloat16)
    model.set_attn_implementation({"text_config": attention})
    return model


def build_inputs(model: Any, tokens: int) -> dict[str, Any]:
    """One prompt of about so many tokens: as many pictures as fit, then words."""
    import torch

    pictures = max(1, round((tokens - WORDS) / IMAGE_TOKENS))
    ids = torch.cat([torch.full((pictures * IMAGE_TOKENS,), 999), torch.arange(WORDS) + 5])[None]
    pixels = torch.rand(pictures, 3, 336, 336)
    place = next(model.parameters())
    return {"input_ids": ids.to(place.device), "attention_mask": torch.ones_like(ids).to(place.device), "pixel_values": pixels.to(place)}


def ways(names: tuple[str, ...], tokens: int, models: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Name -> one prefill of that way. ``models`` keeps what is built, by kind of attention."""
    import torch

    from toolkit import ContrastiveAttention, patch

    def model(kind: str) -> Any:
        if kind not in models:
            models[kind] = build_model(kind)
        return models[kind]

    inputs = build_inputs(model("sdpa" if "plain" in names or "ours" in names else "eager"), tokens)

    def forward(kind: str, **options: Any) -> Any:
        with torch.inference_mode():
            return model(kind)(**inputs, use_cache=True, logits_to_keep=1, **options)

    method = ContrastiveAttention(candidates="scaled")

    def ours() -> Any:
        with patch(model("sdpa"), method):
            return forward("sdpa")

    def two_pass() -> Any:
        rows = [layer[:, :, -1] for layer in forward("eager", output_attentions=True).attentions]
        return rows, forward("sdpa")

    table: dict[str, Callable[[], Any]] = {
        "plain": lambda: forward("sdpa"), "ours": ours, "eager": lambda: forward("eager"),
        "eager_attentions": lambda: forward("eager", output_attentions=True), "two_pass": two_pass,
    }  # fmt: skip
    return {name: table[name] for name in names}


def seconds(tokens: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median, least and most seconds of each way, interleaved after a warm-up."""
    import torch

    runs = ways(WAYS, tokens, {})
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for number in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter() if torch.cuda.is_available() else time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            end = time.perf_counter() if torch.cuda.is_available() else time.process_time()
            if number:
                taken[name].append(end - start)
    return {name: {"median": statistics.median(own), "least": min(own), "most": max(own)} for name, own in taken.items()}


def extra_megabytes(way: str, tokens: int) -> float:
    """Peak memory of one prefill above what was there before it, after a short prefill has loaded what loads once."""
    import torch

    models: dict[str, Any] = {}
    ways((way,), IMAGE_TOKENS + WORDS, models)[way]()
    run = ways((way,), tokens, models)[way]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what the short one left goes back
    before_kb = _status_kb("VmRSS:")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    run()
    return (_status_kb("VmHWM:") - before_kb) / 1024


def _status_kb(field: str) -> int:
    return int(Path("/proc/self/status").read_text().split(field)[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[641, 2369])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    if given.memory_of:
        print(extra_megabytes(given.memory_of, given.tokens[0]))
        return
    for tokens in given.tokens:
        time_of = seconds(tokens, given.repeats)
        memory = {}
        for way in WAYS:
            command = [sys.executable, "-m", "benchmarks.bench_attention", "--memory-of", way, "--tokens", str(tokens)]
            memory[way] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        plain = time_of["plain"]["median"]
        found = {
            "time_against_plain": time_of["ours"]["median"] / plain,
            "faster_than_eager_attentions": time_of["eager_attentions"]["median"] / time_of["ours"]["median"],
            "less_memory_than_eager_attentions": memory["eager_attentions"] / memory["ours"],
        }
        facts = {
            "benchmark": "attention",
            "tokens": tokens,
            **{name: round(value, 3) for name, value in found.items()},
            "targets": TARGETS,
            "time_ratio": {way: round(own["median"] / plain, 3) for way, own in time_of.items()},
            "spread": {way: [round(own["least"] / plain, 3), round(own["most"] / plain, 3)] for way, own in time_of.items()},
            "less_memory_above_plain": round((memory["eager_attentions"] - memory["plain"]) / max(memory["ours"] - memory["plain"], 1), 1),
            "extra_mb": {way: round(value, 1) for way, value in memory.items()},
            "clock": "wall" if torch.cuda.is_available() else "cpu",
            "load": round(os.getloadavg()[0], 1),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "torch": torch.__version__,
            "machine": platform.machine(),
        }
        print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
