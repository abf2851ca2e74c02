"""Which photos of a folder fit a sentence best?

python examples/rank_photos.py photos "a photo of a scratched phone" --model pocket-clip
"""

from __future__ import annotations

import argparse

import toolkit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("sentence")
    parser.add_argument("--model", default="pocket-clip")
    parser.add_argument("--most", type=int, default=5)
    given = parser.parse_args()

    encoder = toolkit.load_encoder(given.model)
    photos = toolkit.find_images(given.folder)
    similarity = encoder.encode_images(photos) @ encoder.encode_texts([given.sentence]).T
    for index in similarity[:, 0].argsort(descending=True)[: given.most].tolist():
        print(f"{similarity[index, 0].item():+.4f}  {photos[index]}")


if __name__ == "__main__":
    main()
