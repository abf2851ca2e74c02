"""``bazaar/vqa``: questions about procedural scenes, without any files, and scores of attention maps against the true pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from evals.metrics.pointing import Box, Pointing, point
from evals.tasks.vqa import TYPES, VqaTask
from evals.tasks.vqa_prompts import load_vqa_prompt
from evals.tasks.vqa_sets import SETS
from toolkit.config import fingerprint
from toolkit.errors import UsageError, unknown_name
from toolkit.types import JSON, Sample

NAME = "bazaar/vqa"
SIZES = (48, 1024)


def load_bazaar_vqa(
    *,
    split: str = "test",
    questions: int | None = None,
    size: int = 96,
    seed: int | None = None,
    prompt: str | None = None,
    pre_prompt: str | None = None,
    post_prompt: str | None = None,
    max_new_tokens: int | None = None,
    scorers: str | Sequence[str] | None = None,
) -> VqaTask:
    """The task. The ``meta`` of a sample also holds ``truth``, ``form`` and ``evidence`` (for ``evidence_mask``).

    Args:
        split: "test" or "train": two marketplaces. questions: how many; None is 2,000. size: side of the pictures in pixels.
        seed: another marketplace than the split's own.
        prompt: which variant of prompts/vqa. pre_prompt, post_prompt: texts of one's own around the question.
        scorers: names, the primary one first, instead of those of VQAv2.
    Raises: UsageError: for an impossible option.
    """
    from evals import bazaar
    from evals.bazaar.vqa import DEFAULT_COUNT, MARKET

    if split not in MARKET:
        raise unknown_name(f"split of {NAME}", split, MARKET)
    for option, value in (("questions", questions), ("seed", seed), ("size", size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UsageError(f"{option} must be a whole number, not {value!r}")
    if not SIZES[0] <= size <= SIZES[1]:
        raise UsageError(f"size must be a number of pixels from {SIZES[0]} to {SIZES[1]}, not {size}")
    market = MARKET[split] if seed is None else seed
    said = load_vqa_prompt("bazaar", prompt, pre=pre_prompt, post=post_prompt, max_new_tokens=max_new_tokens)
    names = tuple(scorers.replace(" ", "").split(",")) if isinstance(scorers, str) else tuple(scorers or ())
    samples = []
    for asked in bazaar.vqa_split(market, DEFAULT_COUNT if questions is None else questions):
        meta: dict[str, JSON] = {
            "question": asked.text,
            "prompt": said.text(asked.text),
            "answers": [each.answer for each in asked.annotations()],
            "question_type": asked.type,
            "answer_type": asked.answer_type,
            "form": asked.form,
            "truth": asked.answer,
            "evidence": asked.evidence.to_json(),
        }
        samples.append(Sample(str(asked.id), bazaar.SceneImage(asked.scene, market, size), None, meta))
    image = samples[0].image
    return VqaTask(
        name=NAME if split == "test" else f"{NAME}:{split}",
        items=samples,
        data=f"bazaar ({split}, marketplace {market}, {size} px)",
        content=fingerprint("bazaar-vqa", image.content_id() if image else "", size, market),
        scorers=names or SETS["vqav2"].scorers,
        prompt=said,
        breakdowns=TYPES,
        about={"evidence": True, "size": size},
    )


def pointing(
    evidence: Mapping[str, JSON], weights: ArrayLike, *, size: int = 96, radius: float = 0.0, box: Box | None = None
) -> Pointing | None:
    """How well one patch map points at the pixels that show the answer of a question.

    Args:
        evidence: ``meta["evidence"]`` of the sample. weights: (H, W) of the map. size: of the picture that was shown.
        radius: tolerance of the pointing game in pixels. box: what the grid covers of the picture, if not all of it.
    Returns: None where no pixel shows the answer.
    """
    from evals.bazaar import evidence_mask

    mask = evidence_mask(evidence, size)
    return None if mask is None else point(weights, mask, radius=radius, box=box)
