"""The estimator: any order of images, taking them out again, streaming, saving, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.reference_selection import make_vectors, published_predict, published_select, published_similarity
from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.methods.descriptions.estimator import ClassnameFree, arm
from toolkit.methods.descriptions.inputs import doubling_rounds, first_of_each
from toolkit.methods.descriptions.selection import nearest

C, P, D = 12, 36, 16
NAMES = [f"kind {number}" for number in range(C)]
TEXTS = {name: [f"look {3 * number + j}" for j in range(3)] for number, name in enumerate(NAMES)}
VECTORS = make_vectors("clustered", C, P, 90, D, 6)
X, Y, TEST, TRUTH = VECTORS.support, VECTORS.labels, VECTORS.test, VECTORS.truth


def make(**options: Any) -> ClassnameFree:
    return ClassnameFree(None, NAMES, TEXTS, captions=VECTORS.captions, descriptions=VECTORS.d, **options)


def test_fit_and_predict_equal_one_arm() -> None:
    model = make().fit(X, Y)
    order = torch.tensor(sorted(range(P), key=lambda p: f"look {p}"))
    own = [[3 * c, 3 * c + 1, 3 * c + 2] for c in range(C)]
    found = arm(TEST, X, Y, VECTORS.captions, VECTORS.d, options=model.options.selection, own_lists=own, tie_order=order)
    assert torch.equal(model.predict(TEST), found.predictions)
    assert model.w == found.w
    assert model.w_origin == "loo"
    assert model.weight == found.weight


@pytest.mark.parametrize("keep_support", [True, False])
def test_batches_in_any_order_are_one_fit(keep_support: bool) -> None:
    w = "loo" if keep_support else 1.3
    whole = make(w_cls=w, keep_support=keep_support).fit(X, Y)
    order = torch.randperm(len(Y), generator=torch.Generator().manual_seed(1))
    parts = make(w_cls=w, keep_support=keep_support)
    for part in order.split(7):
        parts.partial_fit(X[part], Y[part].tolist())
    assert torch.allclose(whole.S, parts.S, rtol=0, atol=1e-6)
    assert torch.equal(whole.counts, parts.counts)
    assert torch.equal(whole.predict(TEST), parts.predict(TEST))
    stream = make(w_cls=w, keep_support=keep_support).fit((X[part], Y[part]) for part in order.split(11))
    assert torch.equal(whole.predict(TEST), stream.predict(TEST))


@pytest.mark.parametrize("keep_support", [True, False])
def test_forgetting_undoes_learning(keep_support: bool) -> None:
    model = make(w_cls="loo" if keep_support else 0.8, keep_support=keep_support).fit(X, Y)
    before = model.predict(TEST), model.S.clone(), model.w, model.score(TEST).B
    model.partial_fit(TEST[:30], TRUTH[:30])
    assert not torch.equal(model.S, before[1])
    model.forget(TEST[:30], TRUTH[:30])
    assert torch.allclose(model.S, before[1], rtol=0, atol=1e-6)
    assert torch.equal(model.predict(TEST), before[0])
    assert model.w == pytest.approx(before[2])
    assert torch.allclose(model.score(TEST).B, before[3], rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="fewer images"):
        model.forget(torch.cat([TEST[:1]] * 7), TRUTH[:1].expand(7))
    if keep_support:  # the sums alone only know how many there were
        with pytest.raises(DataError, match="not learnt"):
            model.forget(TEST[:1], TRUTH[:1])


def test_forgetting_a_whole_class_leaves_nothing() -> None:
    model = make().fit(X, Y)
    model.forget(X[Y == 3], Y[Y == 3])
    assert int(model.counts[3]) == 0
    assert not model.sums[3].any()
    assert model.score(TEST).selected.fallback[(model.score(TEST).selected.sets == 3)].all()


def test_streaming_equals_predicting_and_memory_is_bounded() -> None:
    model = make().fit(X, Y)
    whole = model.predict(TEST)
    model._remembered.most = 5
    model._remembered.clear()
    assert torch.equal(torch.cat(list(model.predict_stream(TEST.split(4)))), whole)
    assert len(model._remembered) <= 5


def test_scores_and_probabilities() -> None:
    model = make().fit(X, Y)
    scores, chances, labels = model.decision_function(TEST), model.predict_proba(TEST), model.predict(TEST)
    assert scores.shape == chances.shape == (90, C)
    assert (scores.isfinite().sum(dim=1) == 3).all()
    assert torch.equal(scores.argmax(dim=1), labels)
    assert torch.equal(chances.argmax(dim=1), labels)
    assert torch.allclose(chances.sum(dim=1), torch.ones(90, dtype=torch.float64))
    assert ((chances > 0) == scores.isfinite()).all()


@pytest.mark.parametrize("w_cls", ["loo", 2.5, "prequential", "oracle"])
def test_saving_and_loading_is_exact(tmp_path: Path, w_cls: Any) -> None:
    model = make(w_cls=w_cls, m=4).fit(X, Y)
    if w_cls == "oracle":
        model.sweep(TEST, TRUTH, keep=True)
    path = model.save(tmp_path / "deep" / "model.safetensors")
    again = ClassnameFree.load(path)
    assert torch.equal(again.predict(TEST), model.predict(TEST))
    assert torch.equal(again.decision_function(TEST), model.decision_function(TEST))
    assert (again.w, again.w_origin, again.weight) == (model.w, model.w_origin, model.weight)
    assert again.options == model.options
    again.partial_fit(TEST[:20], TRUTH[:20])
    model.partial_fit(TEST[:20], TRUTH[:20])
    if w_cls != "oracle":
        assert again.w == model.w


class Encoder:
    """Two numbers that look up: enough of an encoder to be told apart."""

    name, logit_scale, dim = "lookup", 20.0, D

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def encode_texts(self, texts: list[str]) -> Tensor:
        rows = [
            VECTORS.d[int(text.split()[1])] if text.startswith("look") else VECTORS.captions[int(text.split()[-1].strip("."))]
            for text in texts
        ]
        return torch.stack(rows)

    def encode_images(self, images: list[int]) -> Tensor:
        return TEST[list(images)]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    model = ClassnameFree(Encoder("a"), NAMES, TEXTS).fit(X, Y)  # type: ignore[arg-type]
    assert torch.allclose(model.captions, VECTORS.captions, atol=1e-6)
    assert torch.equal(model.predict([3, 5]), model.predict(TEST[[3, 5]]))
    path = model.save(tmp_path / "model")
    assert torch.equal(ClassnameFree.load(path, Encoder("a")).predict(TEST), model.predict(TEST))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="another encoder"):
        ClassnameFree.load(path, Encoder("b"))  # type: ignore[arg-type]
    assert torch.equal(ClassnameFree.load(path, Encoder("b"), force=True).predict(TEST), model.predict(TEST))  # type: ignore[arg-type]


def test_files_that_are_no_classifiers(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(DataNotFound):
        ClassnameFree.load(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not a saved classifier"):
        ClassnameFree.load(tmp_path / "text")
    save_file({"x": torch.ones(1)}, tmp_path / "other")
    with pytest.raises(DataError, match="not a saved classifier"):
        ClassnameFree.load(tmp_path / "other")


def test_without_images_the_captions_stand_in() -> None:
    model = make()
    assert not model.from_photos
    assert torch.allclose(model.S, VECTORS.captions @ VECTORS.d.T, atol=1e-6)
    assert (model.w, model.w_origin) == (1.0, "no support")
    assert len(model.predict(TEST)) == 90
    assert model.report(model.score(TEST))["from_photos"] is False


def test_sweep_is_labelled_and_never_below_the_grid() -> None:
    model = make().fit(X, Y)
    grid = [0.25 * step for step in range(160)]
    found = model.sweep(TEST, TRUTH, grid)
    assert found.label == "oracle"
    assert found.curve.best >= max(accuracy for _, accuracy in found.values)
    assert found.recall_at_k >= found.curve.best
    assert found.floor == pytest.approx(found.recall_at_k / 3)
    right = float((make(w_cls=grid[9]).fit(X, Y).predict(TEST) == TRUTH).double().mean())
    assert dict(found.values)[grid[9]] == pytest.approx(right)
    assert model.w_origin == "loo"
    model.sweep(TEST, TRUTH, keep=True)
    assert model.w_origin == "oracle"


def test_the_published_preset_is_the_published_rules() -> None:
    grid = [0.25 * step for step in range(160)]
    support = torch.cat([X, TEST[:20]])  # some classes have more: the preset takes the first of each
    labels = torch.cat([Y, TRUTH[:20]])
    mixed = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    model = make(preset="published").fit(support[mixed], labels[mixed])
    assert (model.options.w_cls, model.options.support, model.options.dedupe) == ("oracle", "first_n", "exact")
    first = [[i for i in mixed.tolist() if labels[i] == c][:6] for c in range(C)]
    S = published_similarity(support[[i for part in first for i in part]], VECTORS.d, C)
    assert torch.allclose(model.S, S, rtol=0, atol=1e-6)
    L = nearest(TEST @ VECTORS.captions.T, 3)
    own = [[3 * c, 3 * c + 1, 3 * c + 2] for c in range(C)]
    expected = published_predict(TEST, VECTORS.captions, VECTORS.d, L, published_select(S, L, 5, own), grid)
    values = model.sweep(TEST, TRUTH, grid).values
    for (w, accuracy), row in zip(values, expected, strict=True):
        assert accuracy == pytest.approx(float((row == TRUTH).double().mean())), w
    assert make(preset="published", dedupe="none").options.dedupe == "none"
    with pytest.raises(UsageError, match="test labels"):
        model.predict(TEST)


def test_names_aliases_arrays_and_flat_pools() -> None:
    known = {name: [f"alias {number}"] for number, name in enumerate(NAMES)}
    pool = {f"alias {number}": texts for number, texts in reversed(list(enumerate(TEXTS.values())))}
    model = ClassnameFree(None, known, pool, captions=VECTORS.captions, descriptions=VECTORS.d)
    labels = [f"alias {c}" if c % 2 else NAMES[c] for c in Y.tolist()]
    assert torch.equal(model.fit(X.numpy() * 3, labels).predict(TEST.numpy()), make().fit(X, Y).predict(TEST))
    flat = ClassnameFree(None, NAMES, VECTORS.d, captions=VECTORS.captions).fit(X, Y)
    assert flat.tie_order is None
    assert torch.equal(flat.predict(TEST), flat.fit(list(X.numpy()), Y.numpy()).predict(TEST))


def test_leaks_are_reported_dropped_or_refused() -> None:
    pool = {**TEXTS, "kind 0": ["look 0", "looks like kind 3", "look 2"]}
    reported = ClassnameFree(Encoder("a"), NAMES, TEXTS)  # type: ignore[arg-type]
    assert not [sentence for sentence in reported.warnings if "hold a class name" in sentence]
    given: dict[str, Any] = {"captions": VECTORS.captions, "descriptions": VECTORS.d}
    assert "1 of 36 descriptions hold a class name" in ClassnameFree(None, NAMES, pool, **given).warnings[0]
    with pytest.raises(DataError, match="looks like kind 3"):
        ClassnameFree(None, NAMES, pool, leaks="error", **given)
    given["descriptions"] = VECTORS.d[:35]
    dropped = ClassnameFree(None, NAMES, pool, leaks="drop", **given)
    assert "looks like kind 3" not in dropped.pool.texts
    assert dropped.pool.owners[0] == (0, 1)


def test_warnings_and_report_are_json() -> None:
    model = make(m=20).fit(X[::6], Y[::6])
    facts = json.loads(json.dumps(model.report(model.score(TEST))))
    assert any("fewer than k * m = 60" in sentence for sentence in facts["warnings"])
    assert any("one support image" in sentence for sentence in facts["warnings"])
    assert 0 <= facts["shares"]["fallback"] <= 1
    assert 0 < facts["shares"]["short"] <= 1


def test_explain_agrees_with_predict() -> None:
    model = make().fit(X, Y)
    labels = model.predict(TEST)
    for number in range(0, 90, 9):
        assert model.explain(TEST[number]).label == int(labels[number])


def test_rounds_and_first_images() -> None:
    y = torch.tensor([0, 0, 1, 0, 0, 1, 1, 0, 2])
    assert first_of_each(y[:8], 9).tolist() == [0, 1, 2, 3, 5, 6]
    assert first_of_each(y, 9).tolist() == [0, 2, 8]
    assert [part.tolist() for part in doubling_rounds(y)] == [[0, 2, 8], [1, 5], [3, 4, 6], [7]]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: ClassnameFree(None, [], TEXTS), "there are no classes"),
        (lambda: ClassnameFree(None, NAMES, TEXTS), "neither an encoder nor caption"),
        (lambda: ClassnameFree(None, NAMES, TEXTS, captions=VECTORS.captions), "neither an encoder nor description"),
        (lambda: ClassnameFree(None, NAMES, TEXTS, captions=VECTORS.captions[:3], descriptions=VECTORS.d), "3 captions for 12"),
        (lambda: ClassnameFree(None, NAMES, TEXTS, captions=VECTORS.captions, descriptions=VECTORS.d[:5]), "5 description embeddings"),
        (lambda: ClassnameFree(None, NAMES, TEXTS, captions=VECTORS.captions, descriptions=VECTORS.d[:, :5]), "captions have width 16"),
        (lambda: make(kk=3), "no option called 'kk'"),
        (lambda: make(w_cls="best"), "w_cls='best'"),
        (lambda: make(w_cls=-1), "w_cls=-1"),
        (lambda: make(preset="paper"), "preset='paper'"),
        (lambda: make(caption_templates=["a photo"]), "needs one {}"),
        (lambda: make().fit(X, Y[:5]), "72 images and 5 labels"),
        (lambda: make().fit(X[:1], [12]), "label 0 is 12"),
        (lambda: make().fit(X[:1], ["kind 99"]), "label 0 is 'kind 99'"),
        (lambda: make().fit(X[:1] * torch.nan, [1]), "row 0 of the image embeddings has a NaN"),
        (lambda: make().fit(X[:, :3], Y), "images have width 3"),
        (lambda: make().fit(["a.png"], [1]), "images need an encoder"),
        (lambda: make(keep_support=False).fit(X, Y).w, "only their sums were kept"),
        (lambda: make(support="first_n").partial_fit(X, Y), "needs all images at once"),
        (lambda: make(w_cls="prequential").fit(X[:1], Y[:1]).w, "no batch came after"),
        (lambda: make(w_cls="oracle").fit(X, Y).w, "test labels"),
    ],
)
def test_what_is_refused(wrong: Any, sentence: str) -> None:
    with pytest.raises((DataError, UsageError)) as caught:
        wrong()
    assert sentence in str(caught.value)


@pytest.mark.parametrize("k", [1, 2, 50])
@pytest.mark.parametrize("m", [1, 100])
@pytest.mark.parametrize("neighbourhood", ["caption", "ncm", "all"])
def test_extreme_sizes(k: int, m: int, neighbourhood: str) -> None:
    model = make(k=k, m=m, neighbourhood=neighbourhood).fit(X, Y)
    assert model.score(TEST).L.shape[1] == (C if neighbourhood == "all" else min(k, C))
    if k == 1 and neighbourhood == "caption":
        assert torch.equal(model.predict(TEST), (TEST @ VECTORS.captions.T).argmax(dim=1))
    assert len(model.predict(TEST[:0])) == 0
