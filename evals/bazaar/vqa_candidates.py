"""All that can be asked about a scene, with the truth: only what can be seen, and only where one answer is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from evals.bazaar.items import Item
from evals.bazaar.scene import QUARTERS, Placed, Scene
from evals.bazaar.streams import Stream
from evals.bazaar.vocabulary import COLOURS
from evals.bazaar.vqa_words import NOTHING, RELATIONS, TAG, a, several
from evals.bazaar.world import CATEGORIES

CLEAR_PATTERNS = frozenset({"plain", "dotted"})  # the others show two colours in nearly equal parts
VISIBLE = {True: 0.25, False: 0.45}  # least severity that is asked about, on a full photo and in a quarter
MINOR = 0.6  # weight of the parts whose loss is hard to see on a small picture

_CATEGORIES = tuple(CATEGORIES)
_COLOURS = tuple(COLOURS)
_LESS = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}


class Candidate(NamedTuple):
    """A question without its wording.

    Attributes:
        form: a key of ``vqa_words.FORMS``. subject: all that its text gives away besides. slots: what fills the wording.
        answer: the truth. things: positions of the things that it is about. defects: (thing, defect). tag: whether it is about the tag.
        doubt: the share of careful people who would not see the truth.
    """

    form: str
    subject: str
    slots: tuple[str, ...]
    answer: str
    things: tuple[int, ...] = ()
    defects: tuple[tuple[int, int], ...] = ()
    tag: bool = False
    doubt: float = 0.0


class _Facts(NamedTuple):
    """What several forms need of one scene."""

    shown: Scene
    kinds: tuple[str, ...]  # category of each thing
    names: tuple[str | None, ...]  # how to call each thing, None where no short name is unique
    plain: tuple[bool, ...]  # whether its category is name enough
    absent: list[str]
    full: bool  # one thing fills the picture


def candidates(shown: Scene, stream: Stream) -> list[Candidate]:
    """Every question that the scene supports; ``stream`` chooses names, absent things and directions."""
    facts = _facts(shown, stream)
    found: list[Candidate] = []
    for make in (_counts, _presence, _places, _relations, _damage, _looks):
        found.extend(make(facts, stream))
    return found


def _facts(shown: Scene, stream: Stream) -> _Facts:
    kinds = tuple(placed.item.category for placed in shown.things)
    names, plain = [], []
    for position, kind in enumerate(kinds):
        alone = kinds.count(kind) == 1
        plain.append(alone)
        names.append(_name(shown.things, position, alone, stream))
    absent = [kind for kind in _CATEGORIES if kind not in kinds]
    return _Facts(shown, kinds, tuple(names), tuple(plain), absent, len(kinds) == 1)


def _name(things: tuple[Placed, ...], position: int, alone: bool, stream: Stream) -> str | None:
    """Its category, now and then another word for it or its colour before it; of several of a kind, the one that differs in colour."""
    thing = things[position].item
    how = stream.integer(8)
    if alone and how > 1:
        return thing.category
    if alone and how == 1:
        return stream.choice(thing.spec.synonyms)
    others = [other.item for k, other in enumerate(things) if k != position and other.item.category == thing.category]
    if thing.pattern in CLEAR_PATTERNS and all(thing.colour not in (other.colour, other.colour2) for other in others):
        return f"{thing.colour} {thing.category}"
    return thing.category if alone else None


def _counts(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    kinds = facts.kinds
    yield Candidate("count-all", "", (), str(len(kinds)), tuple(range(len(kinds))))
    for kind in dict.fromkeys(kinds):
        where = tuple(k for k, other in enumerate(kinds) if other == kind)
        yield Candidate("count-kind", kind, (several(kind),), str(len(where)), where)
    missing = stream.choice(facts.absent)
    yield Candidate("count-kind", missing, (several(missing),), "0")


def _presence(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    """Yes and no come in pairs: of a kind that is there or not, and of a colour that the thing of this kind has or not."""
    yield Candidate("presence-tag", "", (a(TAG),), "yes" if facts.shown.tag else "no", tag=facts.shown.tag is not None)
    position = stream.integer(len(facts.kinds))
    kind, missing = facts.kinds[position], stream.choice(facts.absent)
    where = tuple(k for k, other in enumerate(facts.kinds) if other == kind)
    yield Candidate("presence-kind", kind, (a(kind),), "yes", where)
    yield Candidate("presence-kind", missing, (a(missing),), "no")
    thing = facts.shown.things[position].item
    if thing.pattern in CLEAR_PATTERNS:
        same = tuple(k for k in where if facts.shown.things[k].item.colour == thing.colour)
        yield Candidate("presence-look", f"{thing.colour} {kind}", (a(f"{thing.colour} {kind}"),), "yes", same)
    used = {colour for k in where for colour in (facts.shown.things[k].item.colour, facts.shown.things[k].item.colour2)}
    other = stream.choice(_COLOURS)
    if other not in used:
        yield Candidate("presence-look", f"{other} {kind}", (a(f"{other} {kind}"),), "no", where)


def _places(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    shown = facts.shown
    for position, (placed, name) in enumerate(zip(shown.things, facts.names, strict=True)):
        if name is not None:
            yield Candidate("place-of", "", (name,), placed.place, (position,))
    if shown.tag is not None:
        yield Candidate("place-tag", "", (), shown.tag.place, tag=True)
    if facts.full:
        return
    seen = {placed.place: position for position, placed in enumerate(shown.things)}
    for place in QUARTERS:
        if place in seen:
            yield Candidate("place-what", "", (place,), facts.kinds[seen[place]], (seen[place],))
        elif shown.tag is not None and shown.tag.place == place:
            yield Candidate("place-what", "", (place,), TAG, tag=True)
        else:
            yield Candidate("place-what", "", (place,), NOTHING)


def _relations(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    """Left means: in the left column. What is asked for is the only thing (or the tag) there, or nothing."""
    shown = facts.shown
    if facts.full:
        return
    places = [*(placed.place for placed in shown.things), *([shown.tag.place] if shown.tag else [])]
    for position, name in enumerate(facts.names):
        if name is None:
            continue
        relation = stream.choice(RELATIONS)
        side = _LESS[relation]
        beyond = [] if side in places[position] else [k for k, place in enumerate(places) if side in place]
        if not beyond:
            yield Candidate("relation-what", "", (name, relation), NOTHING, (position,))
        elif len(beyond) == 1 and beyond[0] == len(facts.kinds):
            yield Candidate("relation-what", "", (name, relation), TAG, (position,), tag=True)
        elif len(beyond) == 1:
            yield Candidate("relation-what", "", (name, relation), facts.kinds[beyond[0]], (position, beyond[0]))
    named = [position for position, name in enumerate(facts.names) if name is not None]
    if len(named) > 1:
        first, second = stream.shuffled(named)[:2]
        relation = stream.choice(RELATIONS)
        side = _LESS[relation]
        here, there = side in places[first], side in places[second]
        if here != there:
            slots = (facts.names[first] or "", relation, facts.names[second] or "")
            yield Candidate("relation-is", "", slots, "yes" if here else "no", (first, second))


def _damage(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    shown = facts.shown
    if facts.full and shown.tag is not None:
        return  # the tag may cover the damage
    states = [_state(placed.item, facts.full) for placed in shown.things]
    for position, (name, state) in enumerate(zip(facts.names, states, strict=True)):
        if name is None or state is None:
            continue
        seen, doubt = state
        kind, where = facts.kinds[position], tuple((position, k) for k in seen)
        yield Candidate("defect-is", kind, (name,), "yes" if seen else "no", (position,), where, False, doubt)
        if len(shown.things[position].item.defects) == len(seen) < 2:
            answer = shown.things[position].item.defects[seen[0]].type if seen else NOTHING
            yield Candidate("defect-what", kind, (name,), answer, (position,), where, False, doubt)
    known = [state for state in states if state is not None]
    bad = [position for position, state in enumerate(states) if state is not None and state[0]]
    if not facts.full and len(known) == len(states) and len(bad) == 1 and facts.plain[bad[0]]:
        seen, doubt = known[bad[0]]
        yield Candidate("defect-which", "", (), facts.kinds[bad[0]], (bad[0],), tuple((bad[0], k) for k in seen), False, doubt)


def _state(thing: Item, full: bool) -> tuple[tuple[int, ...], float] | None:
    """(the defects that can be seen, doubt), or None where one cannot say: damage that is too faint to be sure of."""
    if not thing.defects:
        return (), 0.0
    seen, doubt = [], 1.0
    for number, defect in enumerate(thing.defects):
        if defect.type == "missing part":
            weight = thing.spec.part[defect.part].weight
            visible, unsure = full or weight > MINOR, 0.3 if weight <= MINOR else 0.15
        else:
            beyond = defect.severity - VISIBLE[full]
            visible, unsure = beyond >= 0, max(0.0, 0.32 - beyond)
        if visible:
            seen.append(number)
            doubt = min(doubt, unsure)
    return (tuple(seen), round(doubt, 6)) if seen else None


def _looks(facts: _Facts, stream: Stream) -> Iterator[Candidate]:
    shown = facts.shown
    for position, placed in enumerate(shown.things):
        thing, where = placed.item, (position,)
        clear = thing.pattern in CLEAR_PATTERNS
        if clear and not facts.full:
            yield Candidate("colour-at", "", (placed.place,), thing.colour, where)
        if facts.plain[position]:
            kind = thing.category
            if clear:
                yield Candidate("colour-of", kind, (kind,), thing.colour, where)
            yield Candidate("material-of", kind, (kind,), thing.material, where)
            yield Candidate("pattern-of", kind, (kind,), thing.pattern, where)
    if facts.full:
        yield Candidate("kind-of", "", (), facts.kinds[0], (0,))
    if shown.tag is not None:
        yield Candidate("reading-price", "", (), str(shown.tag.price), tag=True)
