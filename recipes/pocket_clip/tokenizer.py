"""The tokenizer of pocket-clip: CLIP's own byte-level BPE pipeline with a small vocabulary, trained by the recipe.

CLIP's tokenizer maps an unknown piece to the end-of-text token, at which the text tower pools: one unknown byte would cut the
text off. So all 256 bytes are in the vocabulary twice, inside a word and at its end, as in the original CLIP.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END = "</w>"
CONTEXT = 77


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> CLIPTokenizer:
    """A CLIPTokenizer with ``vocab_size`` entries: 2 special tokens, 512 bytes and the most useful merges."""
    alphabet = sorted(ByteLevel.alphabet())
    pipeline = CLIPTokenizer().backend_tokenizer
    trainer = BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, end_of_word_suffix=END, special_tokens=[BOS, EOS], show_progress=False
    )
    pipeline.train_from_iterator(texts, trainer)
    merges = list(_merges(pipeline.to_str()))
    vocab = {token: index for index, token in enumerate([BOS, EOS, *alphabet, *(byte + END for byte in alphabet)])}
    kept: list[tuple[str, str]] = []
    for left, right in merges:
        if len(vocab) == vocab_size:
            break
        if left in vocab and right in vocab:
            kept.append((left, right))
            vocab.setdefault(left + right, len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=kept, model_max_length=CONTEXT)


def _merges(tokenizer_json: str) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in json.loads(tokenizer_json)["model"]["merges"]]
