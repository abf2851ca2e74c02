"""Zero-shot classification of image files: ours, against the zero-shot-image-classification pipeline of transformers.

Both read the same files, know the same classes and use the same prompt; ours runs without its cache. The ratio is to the pipeline
as its documentation calls it, which encodes all class names anew for each image; ``batched_ratio`` is to the pipeline with a
batch size of its own, which encodes them once a batch.

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
    parser.add_argument("--shape", default="vit-b-32")
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

        def by_pipeline(**how: int) -> list[str]:
            answers = usual(paths, candidate_labels=names, hypothesis_template=TEMPLATE, **how)
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
        theirs, usual_time = timed(by_pipeline)
        _, batched = timed(lambda: by_pipeline(batch_size=given.batch_size))
        ours, ours_time = timed(by_us)
        agreement = sum(a == b for a, b in zip(theirs, ours, strict=True)) / len(ours)
        speak(
            "zero-shot", usual=usual_time, ours=ours_time, target=TARGET, images=len(files), classes=len(names), shape=given.shape,
            agreement=agreement, different_answers=len(set(ours)),
            batched_ratio=round(batched.wall / ours_time.wall, 2), batched_cpu_ratio=round(batched.cpu / ours_time.cpu, 2),
        )  # fmt: skip


if __name__ == "__main__":
    main()
