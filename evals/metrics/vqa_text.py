"""What is done to answers before they are compared: the building blocks of the VQA scorers, as pure functions of one text.

Each keeps the oddities of the public code that it has to agree with; a change of behaviour is a new function and a new scorer version.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType

CONTRACTIONS_FILE = Path(__file__).resolve().parents[1] / "data" / "vqa" / "contractions.json"
NUMBERS = MappingProxyType(
    {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}
    | {"nine": "9", "ten": "10"}
)
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = frozenset(';/[]"{}()=+\\_-><@`,?!')
FULL_STOPS_REMOVED = 32  # inherited: the public code passes a flag constant as the replacement count
CACHED = 65536  # answers repeat: VQAv2 val has 2 million references and far fewer different ones

_STOP = re.compile(r"\.(?!\d)")
_STOP_BETWEEN_WORDS = re.compile(r"(?<!\d)\.(?!\d)")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_COMMAS_IN_NUMBER = re.compile(r"\d,+\d")


@cache
def contractions() -> MappingProxyType[str, str]:
    """The 120 contractions, such as dont -> don't; read-only. Source and licence stand beside the file."""
    return MappingProxyType(json.loads(CONTRACTIONS_FILE.read_text("ascii"))["entries"])


def trim(text: str) -> str:
    """W: newlines and tabs become spaces, both ends are stripped.

    >>> trim(" a\\tb\\n")
    'a b'
    """
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(CACHED)
def depunctuate(text: str, *, keep_after_digit: bool = False, several_commas: bool = False) -> str:
    """P: each punctuation character is deleted where it stands next to a space or the text has a number with a comma, else becomes a space.

    The tests look at the text as given, and what holds for one occurrence of a character holds for all. Then full stops that no digit
    follows are removed, the first 32 of them.

    Args:
        keep_after_digit: P': a full stop that follows a digit stays too.
        several_commas: "1,,000" is a number with a comma too, as in lmms-eval; the official code wants one comma.
    >>> depunctuate("t-shirt"), depunctuate("1,000"), depunctuate("u.s."), depunctuate("10.", keep_after_digit=True)
    ('t shirt', '1000', 'us', '10.')
    """
    present = PUNCTUATION.intersection(text)
    if present:
        number = (_COMMAS_IN_NUMBER if several_commas else _COMMA_IN_NUMBER).search(text) is not None
        text = text.translate({ord(p): "" if number or p + " " in text or " " + p in text else " " for p in present})
    if "." in text:
        text = (_STOP_BETWEEN_WORDS if keep_after_digit else _STOP).sub("", text, count=FULL_STOPS_REMOVED)
    return text


@lru_cache(CACHED)
def plain_words(text: str) -> str:
    """D: lower case, number words as digits, no articles, contractions with their apostrophes, single spaces.

    >>> plain_words("The two dont  know")
    "2 don't know"
    """
    known = contractions()
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(known.get(word, word) for word in words if word not in ARTICLES)


def tokenise(text: str) -> str:
    """T: lower case without commas and question marks, "'s" as a word of its own, stripped.

    >>> tokenise("A man's hat, no?")
    "a man 's hat no"
    """
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()


def single_spaced(text: str) -> str:
    """N: stripped, lower case, white space collapsed.

    >>> single_spaced(" Coca \\n Cola")
    'coca cola'
    """
    return " ".join(text.lower().split())


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance with unit costs over characters.

    One column of the table is two integers of as many bits as the longer text has characters, so that a column costs a dozen operations.
    Source: Myers, 1999, in the form of Hyyrö, 2003, for the distance of whole texts.
    >>> edit_distance("kitten", "sitting"), edit_distance("", "abc")
    (3, 3)
    """
    if a == b:
        return 0
    if len(a) < len(b):
        a, b = b, a
    if not b:
        return len(a)
    places: dict[str, int] = {}
    for i, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << i
    ones, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    up, down, distance = ones, 0, len(a)  # where the column rises and falls by one; its lowest cell
    for character in b:
        equal = places.get(character, 0)
        vertical = equal | down
        horizontal = (((equal & up) + up) ^ up) | equal
        right_up = down | (~(horizontal | up) & ones)
        right_down = up & horizontal
        if right_up & last:
            distance += 1
        elif right_down & last:
            distance -= 1
        right_up = right_up << 1 | 1
        up = (right_down << 1 | ~(vertical | right_up)) & ones
        down = right_up & vertical & ones
    return distance
