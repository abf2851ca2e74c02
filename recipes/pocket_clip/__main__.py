"""One command from nothing to the shipped folder; every stage is skipped when its result is there already.

python -m recipes.pocket_clip --eurosat DIR/eurosat --work build/pocket-clip
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

DEFAULT_STEPS, BATCH, LR, SEED = 1400, 256, 1e-3, 0
BAZAAR_ROWS, CAPTIONS_PER_ROW, CAPTIONS_PER_DRAW = 60_000, 16, 3
VOCABULARY = 3072
SHARES = (0.7, 0.3)  # Bazaar, EuroSAT
REGION_STEPS, REGION_LR, REGION_CAPTIONS = 600, 5e-4, 2
REGION_WHOLE = (28, 28)  # whole photos of Bazaar and EuroSAT in a batch of the second stage
REGION_GROUPS = (28, 24)  # pairs of twins, scenes


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.pocket_clip", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--eurosat", type=Path, required=True, help="folder with EuroSAT's train-*.parquet")
    parser.add_argument("--work", type=Path, default=Path("build/pocket-clip"), help="packs, checkpoints and logs (about 3 GB)")
    parser.add_argument("--out", type=Path, default=Path("toolkit/models/pocket/pocket-clip"), help="the finished model folder")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="of the first stage: whole photos")
    parser.add_argument("--region-steps", type=int, default=REGION_STEPS, help="of the second stage: damage and regions")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads for training")
    parser.add_argument("--prepare", action="store_true", help="stop when the packs are written")
    arguments = parser.parse_args()
    started = time.time()

    from recipes.pocket_clip import data, export, model, packs, regions, train

    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = packs.prepare(
        arguments.work, arguments.eurosat, rows=BAZAAR_ROWS, captions=CAPTIONS_PER_ROW, vocabulary=VOCABULARY, seed=SEED
    )
    regions.prepare(arguments.work, tokenizer)
    if arguments.prepare:
        return
    sources = [data.Pack.read(arguments.work / "bazaar", flips=False), data.Pack.read(arguments.work / "eurosat", flips=True)]
    batches = data.Batches(sources, SHARES, captions=CAPTIONS_PER_DRAW, seed=SEED)
    random.seed(SEED)
    import torch

    torch.manual_seed(SEED)
    clip = model.build(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    train.fit(clip, batches, arguments.work, steps=arguments.steps, batch_size=BATCH, lr=LR, seed=SEED, threads=arguments.threads)
    places = [regions.RegionPack.read(arguments.work / "twins", group=2), regions.RegionPack.read(arguments.work / "scenes", group=1)]
    mixed = regions.RegionBatches(
        sources, REGION_WHOLE, places, REGION_GROUPS, captions=REGION_CAPTIONS, seed=SEED, tokenizer=tokenizer
    )
    second = {"steps": arguments.region_steps, "batch_size": 1, "lr": REGION_LR, "seed": SEED, "threads": arguments.threads}
    train.fit(clip, mixed, arguments.work / "regions", **second, trainer_class=train.RegionTrainer, save_steps=100)
    export.write(clip, tokenizer, arguments.out)
    print(f"wrote {arguments.out} after {(time.time() - started) / 3600:.2f} h")


if __name__ == "__main__":
    main()
