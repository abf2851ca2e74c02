"""One command from the shipped pocket-clip to the pocket-llava folder; every stage is skipped when its result is there already.

python -m recipes.pocket_llava --work build/pocket-llava
python -m recipes.pocket_llava --work build/pocket-llava --blind      (the question-only baseline; ships nothing)
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

STEPS, ROWS, QUESTIONS, LR, SEED = 600, 32, 6, 2e-3, 0
BLIND_STEPS = 500
SCENES, PARTS = 14_000, 3_500
VOCABULARY = 800


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.pocket_llava", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=Path("toolkit/models/pocket/pocket-clip"), help="the folder of the frozen tower")
    parser.add_argument("--work", type=Path, default=Path("build/pocket-llava"), help="pictures, features, checkpoints, logs (3 GB)")
    parser.add_argument("--out", type=Path, default=Path("toolkit/models/pocket/pocket-llava"), help="the finished model folder")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads for training")
    parser.add_argument("--blind", action="store_true", help="train the question-only baseline into WORK/blind instead")
    arguments = parser.parse_args()
    started = time.time()

    import torch
    from transformers import CLIPModel

    from recipes.pocket_clip.train import fit
    from recipes.pocket_llava import alignment, corpus, data, export, model, train

    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = corpus.tokenizer(arguments.work, VOCABULARY)
    torch.manual_seed(SEED)
    clip = CLIPModel.from_pretrained(arguments.clip, dtype=torch.float32)
    llava = model.build(clip, tokenizer, blind=arguments.blind)
    pictures = parts = None
    if not arguments.blind:
        pixels = corpus.pictures(arguments.work, arguments.scenes)
        llava.to("cuda" if torch.cuda.is_available() else "cpu")
        pictures = data.encode(llava, pixels, arguments.work / "pictures.npy", crops=False)
        parts = data.encode(llava, pixels[: min(PARTS, len(pixels))], arguments.work / "parts.npy", crops=True)
    sample = None if pictures is None else torch.from_numpy(pictures[:400].astype("float32")).flatten(0, 1)
    model.initialise(llava, sample)
    if pictures is not None and not (arguments.work / "checkpoints").is_dir():
        print(f"projector aligned: {alignment.align(llava, pictures, tokenizer, seed=SEED):.3f} nats")
    rows = data.Rows(tokenizer, pictures, parts, arguments.scenes, rows=ROWS, questions=QUESTIONS, seed=SEED)
    steps = BLIND_STEPS if arguments.blind else arguments.steps
    place, out = (arguments.work / "blind", arguments.work / "blind" / "model") if arguments.blind else (arguments.work, arguments.out)
    settings = {"steps": steps, "batch_size": 1, "lr": LR, "seed": SEED, "threads": arguments.threads}
    fit(llava, rows, place, **settings, trainer_class=train.AnswerTrainer)
    export.write(llava, tokenizer, out)
    print(f"wrote {out} after {(time.time() - started) / 3600:.2f} h")


if __name__ == "__main__":
    main()
