"""What each way of masking image tokens really masks, on a random LLaVA: ``python -m recipes.tables.masking`` (seconds, one core).

Six layers with the shapes of LLaVA-1.5's parts, random weights scaled up so that attention is not uniform, half of the image tokens
masked at the fifth layer. The sizes say how the ways compare; they are no statement about a trained model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.files import atomic_write_text
from toolkit.methods.interventions.contrast import closed_form_mass, norm_gain
from toolkit.methods.interventions.contrastive_attention import ContrastiveAttention

OUT = Path(__file__).resolve().parents[2] / "docs" / "tables" / "masking.md"
SEED, IMAGE, REVIEW = 0, 3, 4
ROWS = [
    (where, lam)
    for where in ("residual", "attn_input", "kv", "value", "logit_bias")
    for lam in (0.1, 0.01, 0.001, 0.0)
    if lam != 0.001 or where == "residual"
]


def build() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
        rms_norm_eps=1e-5,
    )  # fmt: skip
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=48, patch_size=8)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE, image_seq_length=36))
    random = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape, generator=random) * (0.6 if "embed_tokens" in name else 0.15))
    return model.eval().requires_grad_(False)


def measured(model: Any, inputs: dict[str, Tensor], where: str, lam: float) -> dict[str, Any]:
    """Attention of the last token on masked tokens and keys of masked tokens, at the review layer and behind it, and the logits."""
    method = ContrastiveAttention(candidates=[0, 1, 2], late=3, review=REVIEW, layer_base=0, rho=0.5, lam=lam, where=where)
    attached = method.attach(model)
    rows = attached.session.read([REVIEW, REVIEW + 1])
    with torch.no_grad(), attached:
        output = model(**inputs, use_cache=True)
    decision = attached.found[0]
    assert decision is not None
    masked = decision.positions[decision.masked]
    return {
        "mass": {layer: rows[layer][0][:, masked].sum(-1).mean().item() for layer in rows},
        "heads": rows[REVIEW][0][:, masked].sum(-1),
        # As they are attended to: scaled and rotated. Rotating changes no length.
        "keys": {layer: output.past_key_values.layers[layer].keys[0][:, masked] for layer in (REVIEW, REVIEW + 1)},
        "logits": output.logits,
    }


def main() -> None:
    torch.manual_seed(SEED)  # vectors keep what the library draws for them
    model, random = build(), torch.Generator().manual_seed(SEED + 1)
    words = torch.randint(16, 512, (12,), generator=random).tolist()
    ids = torch.tensor([[1, *words[:3], *[IMAGE] * 36, *words[3:]]])
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(1, 3, 48, 48, generator=random)
    }  # fmt: skip
    before = measured(model, inputs, "logit_bias", 1.0)
    lines = [
        "| where | lam | g(lam) | attention on masked tokens at r | at r+1 | change of their keys at r | at r+1 | of a logit, at most |",
        "|---|---|---|---|---|---|---|---|",
        f"| nothing | 1 | 1 | {before['mass'][REVIEW]:.4f} | {before['mass'][REVIEW + 1]:.4f} | 0 | 0 | 0 |",
    ]
    for where, lam in ROWS:
        after = measured(model, inputs, where, lam)
        if where == "logit_bias":
            assert torch.allclose(after["heads"], closed_form_mass(before["heads"], lam), atol=1e-6)
        change = [((after["keys"][at] - before["keys"][at]).norm() / before["keys"][at].norm()).item() for at in (REVIEW, REVIEW + 1)]
        gain = f"{norm_gain(lam):.4f}" if where == "residual" else ""
        mass = " | ".join(f"{after['mass'][at]:.4f}" for at in (REVIEW, REVIEW + 1))
        logit = (after["logits"] - before["logits"]).abs().max().item()
        lines.append(f"| {where} | {lam:g} | {gain} | {mass} | {change[0]:.2g} | {change[1]:.2g} | {logit:.3f} |")
    atomic_write_text(OUT, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
