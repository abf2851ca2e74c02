"""The scorers against the published vectors, against what they must satisfy, and against installed peers on random strings."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evals.metrics import vqa_text
from evals.metrics.vqa import SCORERS, Scorer, check_scorers, consensus, get_scorer
from evals.metrics.vqa_text import contractions, depunctuate, edit_distance, plain_words, single_spaced, tokenise, trim

VECTORS = json.loads((Path(__file__).parent / "vqa_metric_vectors.json").read_text("utf-8"))
ALPHABET = "ab1 2,.'-9"
TEN_SCORERS = ("vqa_official", "vqa_normalised", "vqa_evalai", "vqa_vlmevalkit")
ONE_SCORERS = ("gqa_exact", "gqa_strip", "gqa_llava", "gqa_contains")
ANY_SCORERS = ("anls", "anls_strict", "docvqa_contains")

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine says nothing about a scorer
SAID = ["yes", "The two", "dont", "u.s.", "1,000", "", "İ", "ß"]

texts = st.one_of(st.text(ALPHABET, max_size=14), st.text(max_size=10), st.sampled_from(SAID))


def ten(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(texts, min_size=10, max_size=10)


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
@pytest.mark.parametrize("reverse", [False, True], ids=["", "reversed"])
def test_published_vectors(vector: dict[str, Any], reverse: bool) -> None:
    answers = vector["answers"][::-1] if reverse else vector["answers"]
    got = {name: get_scorer(name, VECTORS["scorers"][name]["version"])(vector["prediction"], answers) for name in vector["expected"]}
    assert got == pytest.approx(vector["expected"], abs=VECTORS["tolerance"])
    assert (len(set(got.values())) == 1) == vector["agree"]


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [("Yes.", "yes", 1), ("Yes. ", "yes", 0), ("yes...", "yes", 1), ("a yes", "yes", 0), ("yes", "Yes", 0), ("yes", "yes.", 0)],
)
def test_gqa_llava_strips_only_the_answer(prediction: str, reference: str, score: int) -> None:
    """No published vectors: by the rule, the reference stays as it is."""
    assert get_scorer("gqa_llava")(prediction, [reference]) == score


def test_all_eleven_are_there_with_version_and_source() -> None:
    assert set(SCORERS) == {*TEN_SCORERS, *ONE_SCORERS, *ANY_SCORERS}
    assert set(VECTORS["scorers"]) == set(SCORERS) - {"gqa_llava"}
    assert all(scorer.version == 1 and scorer.same_as for scorer in SCORERS.values())
    assert [name for name, scorer in SCORERS.items() if scorer.lenient] == ["gqa_contains", "docvqa_contains"]


def test_the_contraction_table_is_the_published_one() -> None:
    table = dict(contractions())
    canonical = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert len(table) == 120
    assert hashlib.sha256(canonical.encode()).hexdigest() == "ec2778ee4c013cdbe08a275f8a05c671d3ed57cea6179f8a25c1c171b2fa05ee"
    assert "Copyright (c) 2014" in vqa_text.CONTRACTIONS_FILE.with_name("LICENSE.txt").read_text("ascii")
    with pytest.raises(TypeError):
        contractions()["its"] = "it's"  # type: ignore[index]


def test_oddities_of_the_table_are_kept() -> None:
    assert plain_words("somebody'd let's she's its Im DONT") == "somebodyd let's she's its im don't"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\nc ", "a b c"), ("t-shirt", "t shirt"), ("t- shirt x-y", "t shirt xy"), ("1,000 x-y", "1000 xy"),
        ("u.s. 3.5 1.", "us 3.5 1"), ("$5 & 10% #1 it's 5:30*", "$5 & 10% #1 it's 5:30*"), ("." * 40, "." * 8), ("a.b. .5", "ab .5"),
        ("١,٢-٣", "١٢٣"), ("`{}[]", ""),
    ],
)  # fmt: skip
def test_punctuation_by_hand(text: str, expected: str) -> None:
    assert trim(depunctuate(trim(text))) == expected


def test_two_readings_of_a_comma_in_a_number() -> None:
    """lmms-eval takes "1,,000" for a number with a comma, the official code does not."""
    assert depunctuate("1,,000") == "1  000"
    assert depunctuate("1,,000", several_commas=True) == "1000"
    assert get_scorer("vqa_normalised")("1,,000", ["1000"] * 10) == 1
    assert get_scorer("vqa_vlmevalkit")("1,,000", ["1000"] * 10) == 0


def test_other_building_blocks_by_hand() -> None:
    assert tokenise(" A man's hat, no? ") == "a man 's hat no"
    assert plain_words("None of  the TEN") == "0 of 10"
    assert single_spaced("\tCoca \n COLA ") == "coca cola"


@pytest.mark.parametrize("equal", range(11))
def test_consensus_is_the_mean_over_leave_one_out(equal: int) -> None:
    answers = ["yes"] * equal + ["no"] * (10 - equal)
    scores = [min(1.0, sum(answers[j] == "yes" for j in range(10) if j != i) / 3) for i in range(10)]
    assert consensus("yes", answers) == pytest.approx(sum(scores) / 10, abs=1e-15)


def brute_edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


@given(st.text("ab\u00e9", max_size=80), st.text("ab\u00e9", max_size=80))
@patient
def test_edit_distance_is_that_of_the_table(a: str, b: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == brute_edit_distance(a, b)


@given(texts, ten(texts))
@patient
def test_scores_lie_in_the_unit_interval_and_inputs_stay(prediction: str, answers: list[str]) -> None:
    before, table = copy.deepcopy(answers), len(contractions())
    for name in TEN_SCORERS + ANY_SCORERS:
        assert 0.0 <= get_scorer(name)(prediction, answers) <= 1.0
    for name in ("gqa_exact", "gqa_strip", "gqa_llava"):
        assert get_scorer(name)(prediction, answers[:1]) in (0.0, 1.0)
    assert answers == before
    assert len(contractions()) == table
    assert len(vqa_text.NUMBERS) == 12


@given(st.text(ALPHABET, max_size=8), ten(st.text(ALPHABET, max_size=8)))
@patient
def test_a_reference_as_answer_scores(answer: str, others: list[str]) -> None:
    for name in TEN_SCORERS:
        assert get_scorer(name)(answer, [answer, *others[1:]]) > 0
        assert get_scorer(name)(answer, [answer] * 4 + others[4:]) == 1
    for name in ("anls", "anls_strict", "docvqa_contains"):
        assert get_scorer(name)(answer, [*others, answer]) == 1
    for name in ("gqa_exact", "gqa_strip"):
        assert get_scorer(name)(answer, [answer]) == 1
    if plain_words(depunctuate(answer)):
        assert get_scorer("gqa_contains")(answer, [answer]) == 1


@given(texts, ten(texts), st.randoms())
@patient
def test_the_order_of_references_means_nothing(prediction: str, answers: list[str], dice: random.Random) -> None:
    shuffled = dice.sample(answers, len(answers))
    for name in TEN_SCORERS + ANY_SCORERS:
        assert get_scorer(name)(prediction, answers) == get_scorer(name)(prediction, shuffled)


@given(st.text("aB cß", max_size=9).map(single_spaced), st.lists(st.text("aB cß", max_size=9).map(single_spaced), min_size=1, max_size=3))
@patient
def test_the_strict_anls_is_never_above_the_other_on_normalised_texts(prediction: str, answers: list[str]) -> None:
    assert get_scorer("anls_strict")(prediction, answers) <= get_scorer("anls")(prediction, answers)


def test_both_anls_are_one_where_nothing_was_asked_and_nothing_answered() -> None:
    assert get_scorer("anls")("", [""]) == get_scorer("anls_strict")(" ", [""]) == 1


def test_lengths_of_anls_are_those_of_upper_case() -> None:
    assert get_scorer("anls")("ßß", ["ßa"]) == get_scorer("anls_strict")("ßß", ["ßa"]) == 0.75


@pytest.mark.parametrize("name", TEN_SCORERS)
@pytest.mark.parametrize("count", [0, 1, 9, 11])
def test_ten_references_or_an_error(name: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"{name}@1 needs ten reference answers, not {count}"):
        get_scorer(name)("yes", ["yes"] * count)


@pytest.mark.parametrize("name", ONE_SCORERS)
@pytest.mark.parametrize("answers", [[], ["yes", "no"]])
def test_gqa_has_one_reference(name: str, answers: list[str]) -> None:
    with pytest.raises(ValueError, match=f"needs one reference answer, not {len(answers)}"):
        get_scorer(name)("yes", answers)


@pytest.mark.parametrize("name", ANY_SCORERS)
def test_no_reference_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="at least one reference answer"):
        get_scorer(name)("yes", [])


@pytest.mark.parametrize("scorer", SCORERS.values(), ids=list(SCORERS))
@pytest.mark.parametrize("wrong", [None, 3, ["yes"], b"yes"])
def test_only_strings_are_scored(scorer: Scorer, wrong: Any) -> None:
    count = scorer.references or 1
    with pytest.raises(TypeError, match=scorer.full_name):
        scorer(wrong, ["yes"] * count)
    with pytest.raises(TypeError, match=scorer.full_name):
        scorer("yes", [wrong] * count)
    with pytest.raises(TypeError, match=scorer.full_name):
        scorer("yes", "0123456789"[:count])  # a string is a sequence of strings, and never meant as one


@pytest.mark.parametrize("reference", ["", "the", "-", " an  a "])
def test_a_reference_without_words_would_be_in_every_answer(reference: str) -> None:
    with pytest.raises(ValueError, match="no word left"):
        get_scorer("gqa_contains")("anything", [reference])


def test_names_and_versions_are_never_guessed() -> None:
    assert get_scorer("anls@1") is get_scorer("anls") is get_scorer("anls", 1)
    with pytest.raises(ValueError, match="there is no scorer called 'vqa_offical'; there is vqa_official"):
        get_scorer("vqa_offical")
    with pytest.raises(ValueError, match="there is no scorer anls@2; there is anls@1"):
        get_scorer("anls@2")


def test_lenient_scorers_are_not_reported_alone() -> None:
    check_scorers([SCORERS["gqa_contains"], SCORERS["gqa_exact"]])
    with pytest.raises(ValueError, match="not reported alone"):
        check_scorers([SCORERS["gqa_contains"]])
    with pytest.raises(ValueError, match="given twice"):
        check_scorers([SCORERS["anls"], SCORERS["anls"]])
    with pytest.raises(ValueError, match="at least one"):
        check_scorers([])


Peer = Callable[[str, Sequence[str]], float]


def random_cases(count: int, references: int) -> list[tuple[str, list[str]]]:
    """Short texts over few characters, so that equal and nearly equal ones are common; many answers are a reference with one change."""
    dice = random.Random(0)
    words = ["a", "the", "two", "dont", "its", "1,000", "u.s.", "10.", "it's", "t-shirt"]

    def text() -> str:
        if dice.random() < 0.3:
            return " ".join(dice.choices(words, k=dice.randint(1, 2)))
        return "".join(dice.choices("aab12 ,.'-", k=dice.randint(0, 7)))

    cases = []
    for _ in range(count):
        answers = dice.choices([text() for _ in range(3)], k=references)
        answer = dice.choice(answers) if dice.random() < 0.5 else text()
        if answer and dice.random() < 0.5:
            place = dice.randrange(len(answer))
            answer = answer[:place] + dice.choice(" ,.'-1a") + answer[place:]
        cases.append((answer, answers))
    return cases


def agree(name: str, peer: Peer, references: int) -> None:
    """No difference on 1,000 random answers, and both right and wrong ones are among them."""
    scorer, cases = get_scorer(name), random_cases(1000, references)
    mine = [scorer(answer, answers) for answer, answers in cases]
    theirs = [peer(answer, copy.deepcopy(answers)) for answer, answers in cases]
    assert [case for case, a, b in zip(cases, mine, theirs, strict=True) if abs(a - b) > 1e-12] == []
    assert min(mine) == 0
    assert max(mine) == 1


def peer(module: str) -> Any:
    reason = "the peer is not installed: pip install anls lmms-eval"
    return pytest.importorskip(module, reason=reason, exc_type=ImportError)


def test_the_anls_package_gives_the_same() -> None:
    score = peer("anls").anls_score
    agree("anls_strict", lambda answer, answers: score(answer, list(answers)), 3)


def test_lmms_eval_gives_the_same_anls() -> None:
    score = peer("lmms_eval.api.metrics").anls
    agree("anls", lambda answer, answers: score(list(answers), [answer])["anls"], 3)


def test_lmms_eval_gives_the_same_on_gqa() -> None:
    score = peer("lmms_eval.api.metrics").exact_match_hf_evaluate

    def match(answer: str, answers: Sequence[str]) -> float:
        return float(score([answer], list(answers), ignore_case=True, ignore_punctuation=True)["exact_match"])

    agree("gqa_exact", match, 1)


def test_lmms_eval_gives_the_same_on_vqav2() -> None:
    score = peer("lmms_eval.tasks.vqav2.utils").vqav2_process_results

    def vqav2(answer: str, answers: Sequence[str]) -> float:
        rows = [{"answer_id": number, "answer": text} for number, text in enumerate(answers)]
        return float(score({"question_id": 0, "answers": rows}, [answer])["exact_match"])

    agree("vqa_normalised", vqav2, 10)


@pytest.mark.parametrize("task", ["ok_vqa", "vizwiz_vqa", "textvqa"])
def test_lmms_eval_gives_the_same_on_sets_with_plain_answers(task: str) -> None:
    score = getattr(peer(f"lmms_eval.tasks.{task}.utils"), f"{task}_process_results")
    agree("vqa_evalai", lambda answer, answers: float(score({"question_id": 0, "answers": list(answers)}, [answer])["exact_match"]), 10)
