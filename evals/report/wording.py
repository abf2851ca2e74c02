"""The words and number formats of the report: one place, so that the same thing is called the same everywhere."""

from __future__ import annotations

import math
from typing import NamedTuple

from evals.report.svg import clean, number

SPACE = "\u00a0"  # a number and its unit stay on one line
MINUS = "\u2212"

BAZAAR_NOTE = (
    "Bazaar goods are drawn by a program that knows the truth about each of them. Numbers on rendered goods show that the machinery "
    "works and compare methods under known truth; they say nothing about real photos."
)


class Wording(NamedTuple):
    """How a metric is named and read.

    Attributes:
        title: its name in a table.
        meaning: one short sentence.
        share: True if it is a fraction that is shown in percent.
        better: "higher" or "lower".
    """

    title: str
    meaning: str
    share: bool = True
    better: str = "higher"


METRICS: dict[str, Wording] = {
    "top1": Wording("Top-1 accuracy", "The first answer is right."),
    "top5": Wording("Top-5 accuracy", "The right class is among the first five answers."),
    "mean_per_class_recall": Wording("Mean per-class recall", "Each class counts the same, however many images it has."),
    "ece": Wording("Calibration error (ECE)", "Average gap between confidence and accuracy. Lower is better.", better="lower"),
    "macro_f1": Wording("Macro F1", "Precision and recall in one number, averaged over classes."),
    "vqa_official": Wording("VQA accuracy, official", "Agreement with ten people; nothing is cleaned up where all ten agree."),
    "vqa_normalised": Wording("VQA accuracy, normalised", "Agreement with ten people after the same clean-up of all answers."),
    "vqa_evalai": Wording("VQA accuracy, EvalAI", "Agreement with ten people; commas and question marks go first."),
    "vqa_vlmevalkit": Wording("VQA accuracy, VLMEvalKit", "Agreement with ten people; a full stop after a digit stays."),
    "gqa_exact": Wording("Exact match", "The answer is the reference, capitals and punctuation apart."),
    "gqa_strip": Wording("Exact match, stripped", "The answer is the reference, capitals and outer spaces apart."),
    "gqa_llava": Wording("Exact match, LLaVA", "The lower-case answer without final stops is the reference."),
    "gqa_contains": Wording("Reference in the answer", "Lenient: a long answer that names the reference counts too."),
    "anls": Wording("ANLS", "Similarity of spelling, 0 below one half."),
    "anls_strict": Wording("ANLS, strict", "Similarity of spelling, 0 at one half and below."),
    "docvqa_contains": Wording("Answer in the reference, or the reverse", "Lenient: an empty answer counts as right."),
    "image_auroc": Wording("Image AUROC", "How well whole images with and without a defect are told apart."),
    "pixel_auroc": Wording("Pixel AUROC", "How well defective pixels are told apart."),
    "pro": Wording("PRO", "Overlap with each defect, large or small."),
    "mape": Wording("MAPE", "Average error as a share of the price. Lower is better.", better="lower"),
    "srcc": Wording("SRCC", "Rank correlation with people's scores.", share=False),
}


def metric_wording(name: str) -> Wording:
    """The wording of a metric; an unknown one is shown under its own name, as a plain number."""
    if name in METRICS:
        return METRICS[name]
    if name.startswith(("recall@", "precision@", "ndcg@", "map@")):
        kind, _, depth = name.partition("@")
        return Wording(f"{kind.capitalize()} at {clean(depth, 12)}", f"Over the first {clean(depth, 12)} results.")
    return Wording(clean(name, 60), "", share=False)


def finite(value: object) -> float | None:
    """``value`` as a float, or None if it is not a finite number.

    >>> finite(1), finite(None), finite(float("nan")), finite("x"), finite(True)
    (1.0, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def share(value: float, digits: int = 1) -> str:
    """A fraction in percent, with a no-break space before the sign.

    >>> share(0.8734)
    '87.3\\xa0%'
    """
    return f"{100 * value:.{digits}f}{SPACE}%"


def shown(value: float | None, wording: Wording) -> str:
    """A metric's value for people."""
    if value is None:
        return "not defined"
    return share(value) if wording.share else number(value, 3 if abs(value) < 100 else 1).replace("-", MINUS)


def shown_interval(ci: tuple[float, float] | None, wording: Wording) -> str:
    """A metric's interval for people; empty where there is none.

    >>> shown_interval((0.861, 0.884), METRICS["top1"])
    '86.1 to 88.4\\xa0%'
    """
    if ci is None:
        return ""
    if wording.share:
        return f"{100 * ci[0]:.1f} to {share(ci[1])}"
    return f"{shown(ci[0], wording)} to {shown(ci[1], wording)}"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, with its sign.

    >>> points(0.023), points(-0.0004), points(0.0)
    ('+2.3', '\u22120.0', '0.0')
    """
    return "0.0" if difference == 0 else f"{100 * difference:+.1f}".replace("-", MINUS)


def p_value(p: float | None) -> str:
    """A p value with two significant digits.

    >>> p_value(0.03456), p_value(1e-9), p_value(None)
    ('0.035', '< 0.0001', 'not defined')
    """
    if p is None:
        return "not defined"
    if p < 1e-4:
        return "< 0.0001"
    return f"{p:.2g}" if p < 0.995 else "1"


def duration(seconds: float | None) -> str:
    """A time span for people.

    >>> duration(0.42), duration(75), duration(7300), duration(None)
    ('0.4\\xa0s', '1\\xa0min 15\\xa0s', '2\\xa0h 1\\xa0min', '')
    """
    if seconds is None or seconds < 0:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f}{SPACE}s" if seconds < 10 else f"{seconds:.0f}{SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{SPACE}min" + (f" {rest}{SPACE}s" if rest else "")
    return f"{minutes // 60}{SPACE}h {minutes % 60}{SPACE}min"


def counted(n: int, one: str, many: str | None = None) -> str:
    """A count and its noun.

    >>> counted(1, "image"), counted(3000, "image"), counted(2, "class", "classes")
    ('1 image', '3,000 images', '2 classes')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def task_title(task: str) -> str:
    """A task's name as a title: public sets get the spelling that their authors use.

    >>> task_title("bazaar/lines"), task_title("okvqa:val")
    ('Bazaar product lines', 'OK-VQA val')
    """
    known = {
        "eurosat": "EuroSAT",
        "sign_digits": "Sign Language Digits",
        "fashion_mnist": "Fashion-MNIST",
        "imagenet": "ImageNet",
        "imagenetv2": "ImageNetV2",
        "cub200": "CUB-200",
        "places365": "Places365",
        "dtd": "DTD",
        "flowers102": "Flowers-102",
        "bazaar/vqa": "Bazaar VQA",
        "vqav2": "VQAv2",
        "gqa": "GQA",
        "okvqa": "OK-VQA",
        "vizwiz": "VizWiz",
        "textvqa": "TextVQA",
        "docvqa": "DocVQA",
        "bazaar/category": "Bazaar categories",
        "bazaar/lines": "Bazaar product lines",
        "bazaar/lines-heldout": "Bazaar held-out product lines",
    }
    kind, _, split = task.partition(":")
    if split and kind in ("vqav2", "gqa", "okvqa", "vizwiz", "textvqa", "docvqa"):
        return f"{known[kind]} {clean(split, 60)}"
    return known.get(task, clean(task, 120))
