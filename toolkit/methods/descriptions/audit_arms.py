"""The arms of a semantic audit: the same problem answered with and without meaning, labelled images, and descriptions.

Nothing here sees a test label: ``run_arms`` gets none. Weights are chosen by leave-one-out in each arm for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from toolkit.errors import UsageError, unknown_name
from toolkit.methods.descriptions import controls
from toolkit.methods.descriptions.answers import Answers, assigned, by_prototypes, class_mean_answers, swapped, tip_adapter_answers
from toolkit.methods.descriptions.arms import Arm, arm
from toolkit.methods.descriptions.selection import SelectionOptions

Encode = Callable[[Sequence[str]], Tensor]

ENCODE_BYTES = 256 << 20  # of control embeddings that are held at once
WAFFLE_SEEDS = 7
WAFFLE_TEXTS = 40_000  # in all; a thousand classes get fewer seeds


class Kind(NamedTuple):
    """What an arm is: its number in the design, its name for people, and what it isolates."""

    number: str
    title: str
    isolates: str


ARMS: dict[str, Kind] = {
    "caption": Kind("0", "Class name", "the baseline"),
    "templates": Kind("0", "Class name, all templates", "wording of the baseline"),
    "assigned_local": Kind("1", "Texts as written for each class", "assignment by the writer, among the candidates"),
    "assigned_global": Kind("1", "The same, all classes", "assignment by the writer"),
    "assigned_swapped": Kind("1", "Texts of another class", "assignment without sense"),
    "selected": Kind("2", "Selected descriptions", "the method"),
    "selected_clean": Kind("2", "The same without leaked names", "the method without class names in the pool"),
    "random_characters": Kind("3a", "Random letters, selected", "labelled images without language"),
    "random_characters_clean": Kind("3a", "Random letters for the clean pool", "labelled images without language"),
    "random_words": Kind("3b", "Random words, selected", "word-like noise"),
    "permuted_words": Kind("3c", "Words permuted, selected", "vocabulary without phrases"),
    "shuffled": Kind("4", "Selected by shuffled labels", "language without labelled images"),
    "null": Kind("5", "Random letters, shuffled labels", "nothing: expected gain 0"),
    "ncm_global": Kind("6", "Nearest class mean", "vision alone"),
    "ncm_local": Kind("6", "Nearest class mean among candidates", "vision alone, same candidates"),
    "ncm_mixed": Kind("6", "Class name and class mean", "pixels in the place of descriptions"),
    "tip_adapter": Kind("6", "Tip-Adapter", "vision with a cache"),
    "waffle": Kind("7", "WaffleCLIP", "ensembling"),
}
TEXT_CONTROLS = ("random_characters", "random_words", "permuted_words")
NEEDED = ("caption", "selected", "selected_clean", "random_characters", "random_characters_clean", "null")  # by the verdict
MODES = ("selected", "assigned")
VISION = ("ncm_global", "ncm_local", "ncm_mixed", "tip_adapter")


class ControlPools(Protocol):
    """Where an audit gets its meaningless pools from."""

    def pools(self, kind: str, seeds: int) -> Iterator[Tensor]:
        """``seeds`` times (P, D) unit rows of a kind of TEXT_CONTROLS."""

    def waffle(self, number: int) -> Tensor:
        """(C, D) unit prototypes of captions with noise behind them."""


class Controls:
    """Pools of the same shape as the real one, and noise to append to captions.

    Args:
        texts: (P,) of the real pool. encode: texts -> (n, D) unit rows. words: for random words.
        caption: one-slot caption for WaffleCLIP. template: one-slot sentence around every description.
    """

    def __init__(
        self, texts: Sequence[str], classnames: Sequence[str], encode: Encode, *, words: Sequence[str], seed: int = 0,
        caption: str = "A photo of a {}.", template: str = "{}",
    ) -> None:  # fmt: skip
        self.texts, self.classnames, self.encode, self.words, self.seed = tuple(texts), tuple(classnames), encode, tuple(words), seed
        self.caption, self.template = caption, template

    def pool(self, kind: str, number: int) -> list[str]:
        """The texts of control pool ``number`` of a kind."""
        rng = controls.generator(self.seed, TEXT_CONTROLS.index(kind), number)
        if kind == "random_characters":
            return controls.random_characters(self.texts, rng)
        if kind == "random_words":
            return controls.random_words(self.texts, self.words, rng, self.classnames)
        return controls.permuted_words(self.texts, rng)

    def pools(self, kind: str, seeds: int) -> Iterator[Tensor]:
        """(P, D) embeddings of ``seeds`` control pools; as many as fit into memory are encoded in one batch."""
        size = len(self.texts)
        width = int(self.encode(self.texts[:1]).shape[1])
        batch = max(1, ENCODE_BYTES // max(1, 4 * size * width))
        for start in range(0, seeds, batch):
            numbers = range(start, min(start + batch, seeds))
            texts = [self.template.replace("{}", text) for number in numbers for text in self.pool(kind, number)]
            yield from self.encode(texts).split(size)

    def waffle(self, number: int) -> Tensor:
        """(C, D) unit prototypes: every caption with the same random words and characters behind it, averaged."""
        rng = controls.generator(self.seed, len(TEXT_CONTROLS), number)
        noise = controls.waffle_texts(self.texts, self.words, rng, self.classnames)
        stem = self.caption.rstrip(" .")
        texts = [f"{stem.replace('{}', name)}, which has {text}." for name in self.classnames for text in noise]
        means = self.encode(texts).view(len(self.classnames), len(noise), -1).double().mean(dim=1)
        return normalize(means, dim=-1).float()


@dataclass(frozen=True)
class AuditProblem:
    """Everything that an audit answers questions about, as unit embeddings; no test label is in it.

    Attributes:
        classnames, texts: C names, P descriptions. own_lists: for each class the indices of its own texts, or None for a flat pool.
        leaks: indices of the texts that name a class. true_lists: for each class the indices of the texts known to be true of it, or None.
        captions: (C, D). templates: (C, D) ensemble of captions, or None. d: (P, D). test: (N, D).
        supports: one (x (n, D), y (n,)) a draw; none at all lets captions stand in for images.
        controls: None leaves all arms with other texts out.
        tie_order: (P,) see ``selection.select``. scale: the model's factor on cosines, for Tip-Adapter.
    """

    classnames: Sequence[str]
    texts: Sequence[str]
    captions: Tensor
    d: Tensor
    test: Tensor
    supports: Sequence[tuple[Tensor, Tensor]]
    own_lists: Sequence[Sequence[int]] | None = None
    leaks: Sequence[int] = ()
    true_lists: Sequence[Sequence[int]] | None = None
    templates: Tensor | None = None
    controls: ControlPools | None = None
    tie_order: Tensor | None = None
    scale: float = 100.0

    def draws(self) -> list[tuple[Tensor, Tensor]]:
        """The supports, or the captions as one image a class."""
        return list(self.supports) or [(self.captions, torch.arange(len(self.captions)))]


@dataclass(frozen=True)
class AuditOptions:
    """Options of an audit.

    Attributes:
        seeds: control pools and shuffles of each kind. 20 is quick, 100 is full.
        permutations: shufflings of the support's labels that a gain is ranked among.
        arms: names of ARMS to run; empty means all that are possible. Those that the verdict needs always run.
        level: of significance. delta: accuracy that counts as none. resamples: of the bootstrap. seed: of every random choice.
        selection: options of the method. w_cls: "loo", or the same number in every arm.
        mode: what is judged: "selected" descriptions, or "assigned" ones: each class with its own list, without selection.
    """

    seeds: int = 20
    permutations: int = 199
    arms: tuple[str, ...] = ()
    level: float = 0.05
    delta: float = 0.01
    resamples: int = 10_000
    seed: int = 0
    selection: SelectionOptions = field(default_factory=SelectionOptions)
    w_cls: float | str = "loo"
    mode: str = "selected"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"mode={self.mode!r} is not possible", hint="mode is one of: " + ", ".join(MODES))
        if isinstance(self.seeds, bool) or not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"seeds={self.seeds!r} is not possible", hint="an audit needs at least one control seed; 20 and 100 are usual")
        number = self.permutations
        if isinstance(number, bool) or not isinstance(number, int) or 2 / (1 + number) >= self.level:
            hint = f"use {int(2 / self.level)} or more"
            raise UsageError(f"permutations={number!r} cannot show any gain at level {self.level:g}", hint=hint)
        for name in self.arms:
            if name not in ARMS:
                raise unknown_name("audit arm", name, ARMS)


class Answer(NamedTuple):
    """One arm, one draw, one seed.

    Attributes:
        arm: a key of ARMS. draw, seed: numbers. answers: predictions, weight and scores. detail: the selection behind it, if any.
    """

    arm: str
    draw: int
    seed: int
    answers: Answers
    detail: Arm | None = None


def wanted(problem: AuditProblem, options: AuditOptions) -> list[str]:
    """The arms that will run, in the order of ARMS."""
    names = set(options.arms or ARMS) | set(NEEDED)
    if problem.templates is None:
        names.discard("templates")
    if problem.own_lists is None:
        names -= {"assigned_local", "assigned_global", "assigned_swapped"}
    if options.mode == "assigned":  # nothing is selected, so that no label can choose
        names -= {"assigned_local", "shuffled", "null"}
    if not problem.supports:
        names -= set(VISION)
    if not problem.leaks or len(problem.leaks) == len(problem.texts):
        names -= {"selected_clean", "random_characters_clean"}
    if problem.controls is None:
        names -= {"random_characters", "random_characters_clean", "random_words", "permuted_words", "null", "waffle"}
    return [name for name in ARMS if name in names]


def count_answers(problem: AuditProblem, options: AuditOptions) -> int:
    """How many answers ``run_arms`` gives: for progress bars."""
    names, draws = wanted(problem, options), len(problem.draws())
    once = {"caption", "templates", "selected", "selected_clean", "assigned_local", "assigned_global", *VISION}
    each = [1 if name in once else waffle_seeds(problem, options) if name == "waffle" else options.seeds for name in names]
    return sum(number * (1 if name in ("caption", "templates", "waffle") else draws) for name, number in zip(names, each, strict=True))


def waffle_seeds(problem: AuditProblem, options: AuditOptions) -> int:
    """Seven, or as many as the number of classes and of seeds allow."""
    return max(1, min(WAFFLE_SEEDS, options.seeds, WAFFLE_TEXTS // (2 * controls.PAIRS * len(problem.classnames))))


def run_arms(problem: AuditProblem, options: AuditOptions) -> Iterator[Answer]:
    """Every arm's answers, one (arm, draw, seed) at a time."""
    names = wanted(problem, options)
    yield Answer("caption", 0, 0, by_prototypes(problem.test, problem.captions))
    if "templates" in names and problem.templates is not None:
        yield Answer("templates", 0, 0, by_prototypes(problem.test, problem.templates))
    if "waffle" in names and problem.controls is not None:
        for number in range(waffle_seeds(problem, options)):
            yield Answer("waffle", 0, number, by_prototypes(problem.test, problem.controls.waffle(number)))
    for draw, (x, y) in enumerate(problem.draws()):
        yield from _fixed_pool(problem, options, names, draw, x, y)
        yield from _without_descriptions(problem, options, names, draw, x, y)
    for kind in TEXT_CONTROLS:
        if kind in names and problem.controls is not None:
            for number, d in enumerate(problem.controls.pools(kind, options.seeds)):
                for draw, (x, y) in enumerate(problem.draws()):
                    yield from _control_pool(problem, options, names, kind, draw, number, x, y, d)


def _select(
    problem: AuditProblem, options: AuditOptions, x: Tensor, y: Tensor, d: Tensor, *, kept: Sequence[int] | None = None,
    labels: Tensor | None = None, real: bool = False,
) -> tuple[Answers, Arm | None]:  # fmt: skip
    """The method with pool ``d``, with only the texts ``kept`` of it, and with S from other ``labels`` if given."""
    own, order = problem.own_lists, problem.tie_order if real else None
    if kept is not None:
        d, own, order = subset(d, own, order, kept)
    if options.mode == "assigned":
        if own is None:
            raise UsageError("a flat pool assigns no text to any class", hint='audit it with mode "selected"')
        return assigned(problem.test, x, y, problem.captions, d, own, k=options.selection.k), None
    found = arm(
        problem.test, x, y, problem.captions, d,
        options=options.selection, own_lists=own, tie_order=order, selection_labels=labels, w_cls=options.w_cls,
    )  # fmt: skip
    return Answers(found.predictions, found.w, (found.L, found.A, found.B)), found


def subset(
    d: Tensor, own: Sequence[Sequence[int]] | None, order: Tensor | None, kept: Sequence[int]
) -> tuple[Tensor, Sequence[Sequence[int]] | None, Tensor | None]:
    """Descriptions, lists and order of ties of a pool of which only the texts ``kept`` are left."""
    place = {index: number for number, index in enumerate(kept)}
    lists = None if own is None else [[place[index] for index in texts if index in place] for texts in own]
    order = None if order is None else torch.tensor([place[i] for i in order.tolist() if i in place])
    return d[list(kept)], lists, order


def clean_texts(problem: AuditProblem) -> list[int]:
    """Indices of the texts that name no class."""
    leaks = set(problem.leaks)
    return [index for index in range(len(problem.texts)) if index not in leaks]


def _of(name: str, draw: int, seed: int, found: tuple[Answers, Arm | None]) -> Answer:
    return Answer(name, draw, seed, *found)


def _fixed_pool(
    problem: AuditProblem, options: AuditOptions, names: Sequence[str], draw: int, x: Tensor, y: Tensor
) -> Iterator[Answer]:
    """The real pool: as it is, without leaks, and by shuffled labels."""
    yield _of("selected", draw, 0, _select(problem, options, x, y, problem.d, real=True))
    if "selected_clean" in names:
        yield _of("selected_clean", draw, 0, _select(problem, options, x, y, problem.d, kept=clean_texts(problem), real=True))
    if "shuffled" in names:
        for number in range(options.seeds):
            labels = controls.shuffled(y, controls.generator(options.seed, 10, draw, number))
            yield _of("shuffled", draw, number, _select(problem, options, x, y, problem.d, labels=labels, real=True))


def _control_pool(
    problem: AuditProblem, options: AuditOptions, names: Sequence[str], kind: str, draw: int, number: int, x: Tensor, y: Tensor, d: Tensor
) -> Iterator[Answer]:
    """One control pool: selected from, without the places of leaks, and by shuffled labels."""
    yield _of(kind, draw, number, _select(problem, options, x, y, d))
    if kind == "random_characters" and "random_characters_clean" in names:
        yield _of("random_characters_clean", draw, number, _select(problem, options, x, y, d, kept=clean_texts(problem)))
    if kind == "random_characters" and "null" in names:
        labels = controls.shuffled(y, controls.generator(options.seed, 11, draw, number))
        yield _of("null", draw, number, _select(problem, options, x, y, d, labels=labels))


def _without_descriptions(
    problem: AuditProblem, options: AuditOptions, names: Sequence[str], draw: int, x: Tensor, y: Tensor
) -> Iterator[Answer]:
    """Assigned texts, and vision with the same support."""
    k, classes = options.selection.k, len(problem.classnames)
    own = problem.own_lists
    if own is not None:
        for name, width in (("assigned_local", k), ("assigned_global", classes)):
            if name in names:
                yield Answer(name, draw, 0, assigned(problem.test, x, y, problem.captions, problem.d, own, k=width))
        if "assigned_swapped" in names:
            for number in range(options.seeds):
                order = controls.derangement(classes, controls.generator(options.seed, 12, draw, number))
                lists = swapped(own, order)
                yield Answer("assigned_swapped", draw, number, assigned(problem.test, x, y, problem.captions, problem.d, lists, k=k))
    if any(name in names for name in VISION):
        for name, answers in class_mean_answers(problem.test, x, y, problem.captions, k=k).items():
            if name in names:
                yield Answer(name, draw, 0, answers)
    if "tip_adapter" in names:
        yield Answer("tip_adapter", draw, 0, tip_adapter_answers(problem.test, x, y, problem.captions, problem.scale))
