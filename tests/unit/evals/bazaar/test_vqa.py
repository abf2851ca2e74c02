"""Questions about scenes: their truth against the masks and pixels, their balance, their annotators."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest

from evals.bazaar.captions import facts
from evals.bazaar.scene import Scene, render_scene, scene, scene_masks
from evals.bazaar.streams import Stream
from evals.bazaar.vocabulary import COLOURS
from evals.bazaar.vqa import Evidence, VqaQuestion, evidence_mask, questions, training_questions, vqa_split
from evals.bazaar.vqa_annotators import ANNOTATORS, NOISE, annotate, consensus, mistaken
from evals.bazaar.vqa_candidates import CLEAR_PATTERNS, Candidate, candidates
from evals.bazaar.vqa_words import FORMS, NOTHING, PLURAL_NAMES, TAG, TYPES, answer_type, several, wording
from evals.bazaar.world import CATEGORIES
from evals.metrics.vqa import get_scorer
from toolkit.errors import DataError, UsageError

SCENES = range(250)


def everything(wanted: Iterable[int] = SCENES, seed: int = 3) -> list[tuple[Scene, Candidate]]:
    """All candidates about some scenes."""
    return [(shown, each) for shown in (scene(i, seed) for i in wanted) for each in candidates(shown, Stream(seed, shown.index, 31))]


@cache
def every() -> tuple[tuple[Scene, Candidate], ...]:
    return tuple(everything())


def of_form(form: str, most: int = 25) -> list[tuple[Scene, Candidate]]:
    return [(shown, each) for shown, each in every() if each.form == form][:most]


def centre(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def place_of(mask: np.ndarray) -> str:
    (x, y), side = centre(mask), len(mask)
    return f"{'top' if y < side / 2 else 'bottom'} {'left' if x < side / 2 else 'right'}"


def test_every_form_occurs_and_has_only_its_answers() -> None:
    found = every()
    assert {each.form for _, each in found} == set(FORMS)
    for _, each in found:
        assert each.answer in FORMS[each.form].answers
        assert 0 <= each.doubt < 0.5


def test_places_are_where_the_masks_are() -> None:
    seen = Counter()
    for shown, each in of_form("place-of", 30) + of_form("place-tag", 20) + of_form("place-what", 30):
        masks = scene_masks(shown)
        if each.form == "place-what":
            inside = [shown.things[k].item.category for k, mask in enumerate(masks.things) if place_of(mask) == each.slots[0]]
            inside += [TAG] if masks.tag is not None and place_of(masks.tag) == each.slots[0] else []
            assert (inside or [NOTHING]) == [each.answer]
        elif each.answer != "middle":
            mask = masks.tag if each.tag else masks.things[each.things[0]]
            assert mask is not None
            assert place_of(mask) == each.answer
        else:
            assert len(shown.things) == 1
        seen[each.form] += 1
    assert min(seen.values()) >= 20


def test_relations_hold_between_the_centres_of_the_masks() -> None:
    holds = {
        "left of": lambda a, b: a[0] < b[0],
        "right of": lambda a, b: a[0] > b[0],
        "above": lambda a, b: a[1] < b[1],
        "below": lambda a, b: a[1] > b[1],
    }
    for shown, each in of_form("relation-is"):
        first, second = (centre(scene_masks(shown).things[k]) for k in each.things)
        assert holds[each.slots[1]](first, second) == (each.answer == "yes")
    for shown, each in of_form("relation-what"):
        masks = scene_masks(shown)
        here = centre(masks.things[each.things[0]])
        names = [(placed.item.category, centre(mask)) for placed, mask in zip(shown.things, masks.things, strict=True)]
        names += [] if masks.tag is None else [(TAG, centre(masks.tag))]
        gap = 96 * 0.3  # quarters lie half a picture apart; within one column or row, centres differ by less
        axis = 0 if each.slots[1].endswith("of") else 1
        beyond = [name for name, other in names if holds[each.slots[1]](other, here) and abs(other[axis] - here[axis]) > gap]
        assert (beyond or [NOTHING]) == [each.answer]


def test_counts_and_presence_agree_with_the_things() -> None:
    for shown, each in everything(range(120)):
        kinds = [placed.item.category for placed in shown.things]
        if each.form == "count-all":
            assert int(each.answer) == len(kinds) == len(each.things)
        elif each.form == "count-kind":
            assert int(each.answer) == sum(several(kind) == each.slots[0] for kind in kinds) == len(each.things)
        elif each.form == "presence-kind":
            assert (each.answer == "yes") == (each.subject in kinds)
        elif each.form == "presence-look":
            colour, _, kind = each.subject.partition(" ")
            looks = [placed.item for placed in shown.things if placed.item.category == kind]
            assert looks
            assert (each.answer == "yes") == any(thing.colour == colour for thing in looks)
            if each.answer == "no":
                assert all(colour != thing.colour2 for thing in looks)
        elif each.form == "presence-tag":
            assert (each.answer == "yes") == (shown.tag is not None)


def test_a_named_thing_is_the_only_one_of_that_name() -> None:
    words = {word: name for name, spec in CATEGORIES.items() for word in (name, *spec.synonyms)}
    checked = 0
    for shown, each in every():
        if not each.things or each.form not in ("place-of", "relation-what", "relation-is", "defect-is", "defect-what"):
            continue
        name, about = each.slots[0], shown.things[each.things[0]].item
        colour, _, rest = name.partition(" ")
        if name in words:
            meant = [placed.item for placed in shown.things if placed.item.category == words[name]]
        else:
            meant = [
                placed.item
                for placed in shown.things
                if placed.item.category == rest and colour in (placed.item.colour, placed.item.colour2)
            ]
            assert about.pattern in CLEAR_PATTERNS
        assert [thing.index for thing in meant] == [about.index]
        checked += 1
    assert checked > 500


def test_the_colour_that_is_asked_for_is_the_colour_of_the_pixels() -> None:
    """Each pixel of the thing counts for the nearest colour word; other parts, light and shadow leave some doubt."""
    ranks, ahead = [], []
    for shown, each in of_form("colour-of", 40):
        thing = shown.things[each.things[0]].item
        pixels = render_scene(shown)[scene_masks(shown).things[each.things[0]]].astype(float)
        distance = np.linalg.norm(pixels[:, None] - np.array(list(COLOURS.values()), dtype=float), axis=2)
        order = np.bincount(distance.argmin(1), minlength=len(COLOURS)).argsort(kind="stable")[::-1].tolist()
        rank = {name: order.index(k) for k, name in enumerate(COLOURS)}
        ranks.append(rank[each.answer])
        ahead.append(rank[each.answer] < rank[thing.colour2])
    assert np.mean(np.array(ranks) < 3) > 0.9  # a colour at random: 0.25
    assert np.mean(ahead) > 0.7


def test_damage_is_asked_about_only_where_it_can_be_seen() -> None:
    asked = [(shown, each) for form in ("defect-is", "defect-what", "defect-which") for shown, each in of_form(form, 30)]
    damaged = 0
    for shown, each in asked:
        thing = shown.things[each.things[0]].item
        if not each.defects:
            assert thing.defects == ()
            assert each.answer in ("no", NOTHING)
            continue
        damaged += 1
        mask = evidence_mask(Evidence(shown.index, shown.seed, each.things, each.defects, each.tag))
        assert mask is not None
        assert mask.sum() >= 4
        if each.form == "defect-what":
            assert f"damage:{each.answer}" in facts(thing) or each.answer == "missing part"
            assert [defect.type for defect in thing.defects] == [each.answer]
        if each.form == "defect-which":
            assert each.answer == thing.category
            assert all(not placed.item.defects for k, placed in enumerate(shown.things) if k != each.things[0])
    assert damaged > 30


def test_evidence_masks() -> None:
    shown, each = next((s, c) for s, c in every() if c.form == "defect-is" and c.defects)
    evidence = Evidence(shown.index, shown.seed, each.things, each.defects, each.tag)
    small, whole = evidence_mask(evidence), evidence_mask(evidence.to_json(), whole=True)
    assert small is not None
    assert whole is not None
    masks = scene_masks(shown)
    assert np.array_equal(whole, masks.things[each.things[0]])
    thing, defect = each.defects[0]
    assert (small | ~masks.defects[thing][defect]).all()
    assert evidence_mask(Evidence(shown.index, shown.seed, (), (), False)) is None
    tagged = next(s for s, _ in every() if s.tag is not None)
    assert np.array_equal(evidence_mask(Evidence(tagged.index, tagged.seed, (), (), True)), scene_masks(tagged).tag)
    with pytest.raises(DataError, match="no such thing"):
        evidence_mask(Evidence(shown.index, shown.seed, (7,), (), False))
    with pytest.raises(DataError, match="no record of evidence"):
        evidence_mask({"scene": 1})


def test_wordings_are_filled_and_agree_with_their_subject() -> None:
    for _, each in everything(range(60)):
        for number in range(len(FORMS[each.form].wordings)):
            text = wording(each.form, number, each.slots)
            assert text.endswith("?")
            assert not set("{}") & set(text)
            assert text[0].isupper()
            for name in PLURAL_NAMES:
                assert f"is the {name}" not in text or "the color of the" in text or "is there" in text
                assert f"a {name}" not in text
    assert wording("defect-is", 1, ("red headphones",)) == "Do the red headphones have any damage?"
    assert wording("presence-look", 0, ("an orange mug",)) == "Is there an orange mug?"
    assert [answer_type(answer) for answer in ("yes", "3", "top left")] == ["yes/no", "number", "other"]


def test_questions_are_a_function_of_the_scene() -> None:
    first, again = questions(scene(4)), questions(scene.__wrapped__(4))
    assert first == again
    assert [each.annotations() for each in first] == [each.annotations() for each in again]
    assert len({each.id for each in first}) == len(first)
    assert training_questions(scene(4), 3) == training_questions(scene(4), 3)
    assert training_questions(scene(4), 3) != training_questions(scene(4), 3, draw=1)
    assert len(training_questions(scene(4), 3)) == 3
    assert training_questions(scene(4), 0) == []


@pytest.fixture(scope="module")
def training() -> list[tuple[str, str]]:
    return [pair for index in range(2000) for pair in training_questions(scene(index, 1), 4)]


@pytest.fixture(scope="module")
def split() -> list[VqaQuestion]:
    return vqa_split(0, 2000)


def lookup(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The best that somebody can do who hears the question and sees nothing: the usual answer to the same words."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for question, answer in pairs:
        table[question][answer] += 1
    return {question: answers.most_common(1)[0][0] for question, answers in table.items()}


def test_the_question_alone_gives_little_away(training: list[tuple[str, str]], split: list[VqaQuestion]) -> None:
    table = lookup(training)
    known = [each for each in split if each.text in table]
    assert len(known) > 1500
    right = Counter(each.form for each in known if table[each.text] == each.answer)
    asked = Counter(each.form for each in known)
    assert sum(right.values()) / len(known) < 0.25
    fewer = {"material-of": 1 / 3, "defect-what": 1 / 5}  # a category comes in three or four materials, which take some kinds of damage
    for form, many in asked.items():
        even = fewer.get(form, 1 / len(FORMS[form].answers))
        assert right[form] / many < even + 0.05 + 2.6 * (even * (1 - even) / many) ** 0.5, form  # 99.5 % of samples of an even form


def test_training_questions_are_balanced(training: list[tuple[str, str]]) -> None:
    said = Counter(answer for _, answer in training if answer in ("yes", "no"))
    assert said["yes"] / said.total() == pytest.approx(0.5, abs=0.03)
    colours = Counter(answer for _, answer in training if answer in COLOURS)
    assert set(colours) == set(COLOURS)
    assert max(colours.values()) / min(colours.values()) < 2
    prices = Counter(answer for _, answer in training if answer.isdigit() and int(answer) >= 10)
    assert len(prices) == 18
    assert len(training) > 3.9 * 2000


def test_a_split_is_balanced_over_types_and_answers(split: list[VqaQuestion]) -> None:
    assert len(split) == 2000
    assert Counter(each.type for each in split) == dict.fromkeys(TYPES, 200)
    assert [each.id for each in split] == sorted({each.id for each in split})
    assert max(Counter(each.scene for each in split).values()) <= 3
    by_form: dict[str, Counter[str]] = defaultdict(Counter)
    for each in split:
        by_form[each.form][each.answer] += 1
    for form, answers in by_form.items():
        most = max(answers.values()) / answers.total()
        if set(answers) <= {"yes", "no"}:
            assert most <= 0.51
        else:
            assert most <= 1.25 / len(FORMS[form].answers) + 0.03, form


def test_splits_of_other_sizes_and_marketplaces(split: list[VqaQuestion]) -> None:
    small = vqa_split(0, 100)
    assert len(small) == 100
    assert set(Counter(each.type for each in small).values()) == {10}
    assert not {(each.seed, each.id) for each in vqa_split(1, 100)} & {(each.seed, each.id) for each in split}
    for seed, count in ((0, 5), (-1, 100), (0, 10**7)):
        with pytest.raises(UsageError):
            vqa_split(seed, count)


def test_annotators_are_realistic_and_mostly_right(split: list[VqaQuestion]) -> None:
    said = [each.annotations() for each in split]
    assert all(len(ten) == ANNOTATORS for ten in said)
    assert np.mean([consensus(ten) == each.answer for each, ten in zip(split, said, strict=True)]) > 0.985
    flat = [one for ten in said for one in ten]
    assert (
        NOISE["give up"] * 0.6
        < np.mean([one.answer.lower().rstrip(".") in ("unanswerable", "don't know", "not sure") for one in flat])
        < 0.03
    )
    same = np.mean([one.answer == each.answer for each, ten in zip(split, said, strict=True) for one in ten])
    assert 0.75 < same < 0.92
    assert {one.confidence for one in flat} == {"yes", "maybe", "no"}
    for name in ("vqa_normalised@1", "vqa_official@1"):
        score = get_scorer(name)
        truth = [score(each.answer, [one.answer for one in ten]) for each, ten in zip(split, said, strict=True)]
        assert np.mean(truth) > 0.99
        wrong = [
            score(mistaken(each.form, each.answer, Stream(k)), [one.answer for one in ten])
            for k, (each, ten) in enumerate(zip(split, said, strict=True))
        ]
        assert 0.02 < np.mean(wrong) < 0.2


def test_people_disagree_more_about_what_is_hard_to_see() -> None:
    clear = [one for k in range(100) for one in annotate("defect-is", "yes", 0.0, Stream(k))]
    faint = [one for k in range(100) for one in annotate("defect-is", "yes", 0.3, Stream(k))]
    wrong = [np.mean([one.answer.lower().startswith("no") and one.answer != "not sure" for one in rows]) for rows in (clear, faint)]
    assert wrong[0] == pytest.approx(NOISE["lapse"], abs=0.02)
    assert wrong[1] == pytest.approx(0.3, abs=0.05)
    unsure = [np.mean([one.confidence == "maybe" for one in rows]) for rows in (clear, faint)]
    assert unsure[1] > unsure[0] + 0.15


def test_a_mistake_is_another_answer_of_the_same_kind() -> None:
    for form, made in FORMS.items():
        for answer in made.answers:
            for k in range(12):
                other = mistaken(form, answer, Stream(k))
                assert other != answer
                assert answer_type(other) == answer_type(answer)
