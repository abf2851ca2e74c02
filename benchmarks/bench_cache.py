"""A whole evaluation, twice: the second one, of another prompt, finds the image features in the cache.

python -m benchmarks.bench_cache --images 1000
"""

from __future__ import annotations

import argparse
import functools

from benchmarks.common import speak, timed, workplace, write_clip, write_photos

TARGET = 20.0
CLASSES = ["black cat", "blue phone", "green shoe", "large bag", "red dog"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--shape", default="vit-b-32")
    given = parser.parse_args()
    with workplace() as folder:
        from evals.session import EvalRequest, evaluate
        from toolkit.methods import build_method
        from toolkit.models import load_encoder

        path = write_clip(folder / "model", given.shape)
        photos = write_photos(folder / "photos", given.images, CLASSES)
        load_once = functools.cache(load_encoder)  # loading the model is the same work in both runs

        def run(template: str, out: str) -> float:
            request = EvalRequest(f"folder:{photos}", f"local:{path}", templates=(template,), output=folder / out, report=False)
            return float(evaluate(request, load_encoder=load_once, build_method=build_method).results["metrics"]["top1"]["value"])

        load_once(f"local:{path}", device="auto", dtype="auto", offline=False, allow_pickle=False, cache=True)
        _, first = timed(lambda: run("a photo of a {}", "first"))
        _, second = timed(lambda: run("the {}", "second"))
        speak("cache", usual=first, ours=second, target=TARGET, images=given.images, shape=given.shape)


if __name__ == "__main__":
    main()
