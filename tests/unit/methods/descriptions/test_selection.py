"""Selection against a literal loop over its definition: exact ties, empty classes, and every option."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from benchmarks.reference_selection import (
    literal_decide,
    literal_neighbours,
    literal_rows,
    literal_scores,
    literal_select,
    make_vectors,
    published_predict,
    published_select,
    published_similarity,
)
from toolkit.errors import DataError, UsageError
from toolkit.methods.descriptions import selection
from toolkit.methods.descriptions.selection import (
    SelectionOptions,
    class_means,
    decide,
    label_sets,
    nearest,
    predict,
    score,
    select,
    similarity,
    unit_rows,
)

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0, 39.75)


def lists_of(chosen: Tensor) -> list[int]:
    return [index for index in chosen.tolist() if index >= 0]


def check(S: Tensor, counts: Tensor, sets: Tensor, options: SelectionOptions, own: list[list[int]], order: list[int], step: float) -> None:
    """Equal to the loop; margins within ``step``."""
    found = select(S, counts, sets, options, own, tie_order=torch.tensor(order))
    rows = {c: S[c].tolist() for c in range(len(S)) if counts[c] > 0}
    for u, L in enumerate(sets.tolist()):
        expected = literal_select(rows, L, S.shape[1], options, own, order)
        for place, c in enumerate(L):
            chosen = lists_of(found.chosen[u, place])
            assert chosen == (expected[c].chosen or []), (L, c)
            assert int(found.found[u, place]) == expected[c].found
            assert bool(found.fallback[u, place]) == expected[c].fallback
            margins = found.margin[u, place][: len(chosen)]
            if not expected[c].fallback:
                assert margins.tolist() == pytest.approx(expected[c].margins, abs=step)
            else:
                assert margins.isnan().all()


def case(rng: random.Random) -> tuple[Tensor, Tensor, Tensor, SelectionOptions, list[list[int]], list[int]]:
    """A small case on a dyadic grid: sums are exact, and ties are everywhere."""
    classes, pool = rng.randint(2, 7), rng.randint(1, 9)
    grid = rng.choice([2, 4, 16])
    S = torch.tensor([[rng.randint(-grid, grid) / grid for _ in range(pool)] for _ in range(classes)])
    counts = torch.tensor([rng.choice([0, 1, 1, 2, 5]) for _ in range(classes)])
    S[counts == 0] = 0
    options = SelectionOptions(
        k=rng.randint(1, 9),
        m=rng.randint(1, 6),
        keep=rng.choice(["ge", "gt"]),
        rank=rng.choice(["mean", "min"]),
        fallback=rng.choice(["assigned", "assigned_pool_order", "pool_mean"]),
    )
    k = min(options.k, classes)
    sets = torch.tensor([sorted(rng.sample(range(classes), k)) for _ in range(3)])
    own = [rng.sample(range(pool), rng.randint(0, pool)) for _ in range(classes)]
    order = rng.sample(range(pool), pool)
    return S, counts, sets, options, own, order


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_loop_on_2000_dyadic_cases(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(250):
        S, counts, sets, options, own, order = case(rng)
        if sets.shape[1] >= 2:
            check(S, counts, sets, options, own, order, 1e-6)


def test_equals_the_loop_on_floats() -> None:
    rng = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    for trial in range(60):
        S = torch.randn(6, 40, generator=generator, dtype=torch.float64)
        counts = torch.tensor([0 if trial % 3 == 0 and c == 2 else 3 for c in range(6)])
        sets = torch.tensor([sorted(rng.sample(range(6), 4)) for _ in range(5)])
        options = SelectionOptions(k=4, m=7, keep=rng.choice(["ge", "gt"]), rank=rng.choice(["mean", "min"]))
        check(S, counts, sets, options, [[c] for c in range(6)], list(range(40)), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losers_by_one_bit_are_out(dtype: torch.dtype) -> None:
    S = torch.tensor([[0.2, 0.3, 1e-3], [0.2, 0.3, 1e-3]], dtype=dtype)
    S[1] = torch.nextafter(S[1], torch.zeros_like(S[1]))
    found = select(S, torch.tensor([1, 1]), torch.tensor([[0, 1]]), SelectionOptions(k=2))
    assert sorted(lists_of(found.chosen[0, 0])) == [0, 1, 2]
    assert bool(found.fallback[0, 1])


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-12, 1.0, 1e4, 1e30])
def test_any_magnitude(scale: float) -> None:
    S = torch.tensor([[3.0, 1.0, 2.0, 2.0], [1.0, 3.0, 2.0, 1.0], [2.0, 2.0, 2.0, 1.0]]) * scale
    sets = torch.tensor([[0, 1, 2]])
    found = select(S, torch.ones(3, dtype=torch.long), sets, SelectionOptions(m=4))
    assert [lists_of(row) for row in found.chosen[0]] == [[0, 3, 2], [1, 2], [2]]


def test_ties_follow_the_given_order() -> None:
    S = torch.tensor([[1.0] * 100, [0.0] * 100])
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    found = select(S, torch.ones(2, dtype=torch.long), torch.tensor([[0, 1]]), SelectionOptions(m=7), tie_order=order)
    assert found.chosen[0, 0].tolist() == order[:7].tolist()


def test_a_class_without_images_stands_aside() -> None:
    S = torch.tensor([[0.1, 0.4, 0.2], [0.0, 0.0, 0.0], [0.3, 0.1, 0.2]])
    sets = torch.tensor([[0, 1, 2]])
    found = select(S, torch.tensor([2, 0, 1]), sets, SelectionOptions(m=2), [[], [2, 0, 1], []])
    assert found.chosen[0].tolist() == [[1, 2], [2, 0], [0, 2]]
    assert found.fallback[0].tolist() == [False, True, False]
    alone = select(S, torch.tensor([2, 0, 0]), sets, SelectionOptions(m=2), [[0], [1], []])
    assert alone.fallback.all()
    assert alone.chosen[0].tolist() == [[0, -1], [1, -1], [-1, -1]]


def test_no_fallback_is_an_error_when_asked() -> None:
    S = torch.tensor([[1.0], [0.0]])
    with pytest.raises(DataError, match="class number 1"):
        select(S, torch.ones(2, dtype=torch.long), torch.tensor([[0, 1]]), SelectionOptions(fallback="error"))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = make_vectors("clustered", 30, 50, 200, 16, 3)
    means, counts = class_means(vectors.support, vectors.labels, 30)
    S, L = similarity(means, counts, vectors.d), nearest(vectors.test @ vectors.captions.T, 3)
    whole = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=SelectionOptions())
    monkeypatch.setattr(selection, "CHUNK_BYTES", 1)
    monkeypatch.setattr(selection, "SCORE_ROWS", 7)
    parts = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=SelectionOptions())
    assert torch.equal(whole.B, parts.B)
    assert torch.equal(whole.selected.chosen, parts.selected.chosen)
    for row in range(0, 200, 17):  # one image alone, without any grouping
        one = score(vectors.test[row : row + 1], vectors.captions, vectors.d, L[row : row + 1], S, counts, options=SelectionOptions())
        assert torch.allclose(one.B[0], whole.B[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_nearest_breaks_ties_by_index(k: int) -> None:
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 3, (300, 6), generator=generator).float()
    expected = [sorted(range(6), key=lambda c: (-row[c], c))[: min(k, 6)] for row in scores.tolist()]
    assert nearest(scores, k).tolist() == expected


def test_label_sets_group_by_unordered_set() -> None:
    L = torch.tensor([[2, 0, 1], [0, 1, 2], [1, 0, 3], [3, 1, 0]])
    for classes in (4, 2**40):  # the second is too large for one key
        sets, index = label_sets(L, classes)
        assert sets[index].tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 3]]
        assert len(sets) == 2


@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_predictions_equal_the_loop(kind: str) -> None:
    vectors = make_vectors(kind, 15, 40, 200, 12, 3)
    keep = torch.ones(len(vectors.labels), dtype=torch.bool)
    keep[[0, 1, 2, 3, 9]] = False  # class 0 has no image, class 1 and 3 have two
    x, y = vectors.support[keep].double(), vectors.labels[keep]
    captions, d, test = vectors.captions.double(), vectors.d.double(), vectors.test.double()
    own = [[c, (c + 7) % 40] for c in range(15)]
    options = SelectionOptions(dtype="float64")
    means, counts = class_means(x, y, 15)
    rows = literal_rows(x, y, d, 15)
    S = similarity(means, counts, d)
    assert torch.allclose(S[1:], torch.tensor([rows[c] for c in range(1, 15)], dtype=torch.float64), atol=1e-9)
    L = nearest(test @ captions.T, 3)
    scored = score(test, captions, d, L, S, counts, options=options, own_lists=own)
    ours = torch.stack([predict(scored, w) for w in WEIGHTS], dim=1)
    for i, image in enumerate(test):
        near = literal_neighbours(image, captions, 3)
        assert near == L[i].tolist()
        values = literal_scores(image, captions, d, literal_select(rows, near, 40, options, own))
        assert scored.A[i].tolist() == pytest.approx([values[c][0] for c in near], abs=1e-9)
        assert scored.B[i].tolist() == pytest.approx([values[c][1] for c in near], abs=1e-9)
        assert ours[i].tolist() == [literal_decide(values, w) for w in WEIGHTS]


@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_published_rules_in_float32(kind: str) -> None:
    vectors = make_vectors(kind, 60, 120, 300, 32, 4)
    own = [[(3 * c + 5) % 120, c] for c in range(60)]
    options = SelectionOptions(fallback="assigned_pool_order")
    means, counts = class_means(vectors.support, vectors.labels, 60)
    S = similarity(means, counts, vectors.d)
    theirs = published_similarity(vectors.support, vectors.d, 60)
    assert torch.allclose(S, theirs, rtol=0, atol=1e-6)
    L = nearest(vectors.test @ vectors.captions.T, 3)
    mask = published_select(S, L, 5, own)
    scored = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=options, own_lists=own)
    for i in range(300):
        places = torch.searchsorted(scored.selected.sets[scored.set_index[i]], L[i])
        chosen = scored.selected.chosen[scored.set_index[i]][places]
        assert [sorted(lists_of(row)) for row in chosen] == [row[60:].nonzero()[:, 0].tolist() for row in mask[i]]
    ours = torch.stack([predict(scored, w) for w in WEIGHTS])
    assert torch.equal(ours, published_predict(vectors.test, vectors.captions, vectors.d, L, mask, WEIGHTS))


def test_one_candidate_is_the_caption() -> None:
    vectors = make_vectors("random", 8, 10, 20, 8, 2)
    means, counts = class_means(vectors.support, vectors.labels, 8)
    L = nearest(vectors.test @ vectors.captions.T, 1)
    S = similarity(means, counts, vectors.d)
    scored = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=SelectionOptions(k=1))
    assert torch.equal(predict(scored, 0.0), L[:, 0])
    assert not scored.selected.fallback.any()
    assert (scored.B == 0).all()


def test_ties_of_scores_go_to_the_name_then_to_the_smaller_class() -> None:
    L = torch.tensor([[5, 2, 7], [5, 2, 7], [7, 2, 5]])
    A = torch.tensor([[0.5, 0.25, 0.5], [0.5, 0.75, 0.5], [0.25, 0.25, 0.25]], dtype=torch.float64)
    B = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.5], [0.5, 0.5, 0.25]], dtype=torch.float64)
    assert L.gather(1, decide(L, A, B, 1.0)[:, None])[:, 0].tolist() == [5, 2, 2]


def test_size_factor_and_unit_rows() -> None:
    vectors = make_vectors("clustered", 10, 6, 50, 8, 3)
    means, counts = class_means(vectors.support, vectors.labels, 10)
    S = similarity(means, counts, vectors.d, "unit")
    norms = means.norm(dim=1, keepdim=True)
    assert torch.allclose(S, (means / norms).float() @ vectors.d.T, atol=1e-6)
    L = nearest(vectors.test @ vectors.captions.T, 3)
    own = [[c % 6] for c in range(10)]
    plain = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=SelectionOptions(), own_lists=own)
    sized = score(vectors.test, vectors.captions, vectors.d, L, S, counts, options=SelectionOptions(size_norm="set"), own_lists=own)
    places = torch.searchsorted(plain.selected.sets[plain.set_index], L)
    used = (plain.selected.chosen >= 0).sum(dim=-1)[plain.set_index].gather(1, places)
    assert len(used.unique()) > 1
    assert torch.allclose(sized.A, plain.A / used)
    assert torch.allclose(sized.B, plain.B / used)


def test_half_precision_only_rounds() -> None:
    x = torch.tensor([[0.1, 0.9]])
    assert torch.equal(SelectionOptions(dtype="float16").tensor(x), x.half().float())


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (torch.tensor([[1.0, 0.0], [float("nan"), 1.0]]), "row 1 of the images has a NaN"),
        (torch.tensor([[0.0, 0.0]]), "row 0 of the images is zero"),
        (torch.tensor([[1.0, float("inf")]]), "row 0"),
        (torch.ones(3), "expected a matrix"),
        (torch.ones(2, 2, dtype=torch.bool), "expected a matrix"),
    ],
)
def test_bad_rows_are_named(rows: Tensor, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        unit_rows(rows, "images")


@pytest.mark.parametrize("options", [{"k": 0}, {"m": 1.5}, {"m": True}, {"keep": "lt"}, {"rank": "max"}, {"neighbourhood": "x"}])
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        SelectionOptions(**options)  # type: ignore[arg-type]
