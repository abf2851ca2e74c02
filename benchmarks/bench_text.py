"""Encoding short prompts: trimmed to their length, against padded to 77 tokens as is usual.

python -m benchmarks.bench_text --texts 1000
"""

from __future__ import annotations

import argparse

from benchmarks.common import prompts, speak, timed, workplace, write_clip

TARGET = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--shape", default="vit-b-32")
    parser.add_argument("--batch-size", type=int, default=256)
    given = parser.parse_args()
    with workplace() as folder:
        import torch
        from transformers import AutoTokenizer, CLIPModel

        from toolkit.models import load_encoder

        path = write_clip(folder / "model", given.shape)
        encoder = load_encoder(f"local:{path}", cache=False, dtype="float32")
        device = next(encoder.module.parameters()).device
        model, tokenizer = CLIPModel.from_pretrained(path).eval().to(device), AutoTokenizer.from_pretrained(path)
        texts = prompts(given.texts)

        @torch.inference_mode()
        def padded() -> torch.Tensor:
            parts = []
            for start in range(0, len(texts), given.batch_size):
                batch = texts[start : start + given.batch_size]
                tokens = tokenizer(batch, padding="max_length", max_length=77, truncation=True, return_tensors="pt").to(device)
                features = model.get_text_features(**tokens).pooler_output
                parts.append(torch.nn.functional.normalize(features, dim=-1).cpu())
            return torch.cat(parts)

        encoder.encode_texts(texts[:8])  # both warm
        padded_all, usual_time = timed(padded)
        ours_all, ours_time = timed(lambda: encoder.encode_texts(texts, batch_size=given.batch_size))
        difference = float((padded_all - ours_all).abs().max())
        speak("text", usual=usual_time, ours=ours_time, target=TARGET, texts=len(texts), shape=given.shape, largest_difference=difference)


if __name__ == "__main__":
    main()
