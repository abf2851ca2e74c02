"""Zero-shot classification of image files: ours, against the zero-shot-image-classification pipeline of transformers.

Both read the same files, know the same classes and use the same prompt; ours runs without its cache.

python -m benchmarks.bench_zero_shot --images 2000 --classes 100
"""

from __future__ import annotations

import argparse

from benchmarks.common import prompts, speak, timed, workplace, write_clip, write_photos

TARGET = 5.0
TEMPLATE = "a photo of the {}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--shape", default="pocket")
    parser.add_argument("--batch-size", type=int, default=32)
    given = parser.parse_args()
    with workplace() as folder:
        from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, pipeline

        from toolkit.methods import build_method
        from toolkit.models import load_encoder
        from toolkit.types import ClassifyProblem, Sample

        path = write_clip(folder / "model", given.shape)
        names = [text.removeprefix("a photo of a ") for text in prompts(given.classes)]
        files = sorted(write_photos(folder / "photos", given.images, ["all"]).rglob("*.jpg"))
        encoder = load_encoder(f"local:{path}", cache=False, dtype="float32")
        device = next(encoder.module.parameters()).device
        usual = pipeline(
            "zero-shot-image-classification", model=CLIPModel.from_pretrained(path), tokenizer=AutoTokenizer.from_pretrained(path),
            image_processor=AutoImageProcessor.from_pretrained(path), device=device,
        )  # fmt: skip
        paths = [str(file) for file in files]

        def by_pipeline() -> list[str]:
            answers = usual(paths, candidate_labels=names, hypothesis_template=TEMPLATE, batch_size=given.batch_size)
            return [answer[0]["label"] for answer in answers]

        def by_us() -> list[str]:
            from toolkit.images import FileImage

            predictor = build_method("zero-shot").predictor(
                encoder, ClassifyProblem(tuple(names), (TEMPLATE,)), batch_size=given.batch_size
            )
            answers = predictor([Sample(str(file), FileImage(file)) for file in files])
            return [names[answer.output["label"]] for answer in answers]

        usual(paths[:1], candidate_labels=names[:2], hypothesis_template=TEMPLATE)  # both warm
        encoder.encode_images(files[:1])
        theirs, usual_s = timed(by_pipeline)
        ours, ours_s = timed(by_us)
        agreement = sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(ours)
        speak(
            "zero-shot", usual_s=usual_s, ours_s=ours_s, target=TARGET, images=len(files), classes=len(names), shape=given.shape,
            agreement=agreement, different_answers=len(set(ours)),
        )  # fmt: skip


if __name__ == "__main__":
    main()
