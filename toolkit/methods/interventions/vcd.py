"""VCD: what the model says about the image, against what it says about the same image drowned in noise.

A second branch reads the noised image and writes the same tokens; words that it finds as likely come from habit and not from the
image, and lose. Only words that the model finds plausible with the image can win.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from toolkit.errors import Refused, UsageError
from toolkit.methods.interventions.base import Intervention
from toolkit.methods.interventions.branches import Call, Encodings, SecondBranch
from toolkit.methods.interventions.decoding import check_fraction, contrasted
from toolkit.methods.interventions.diffusion import alpha_bar, diffused, noise_like
from toolkit.types import Answer, Question

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

__all__ = ["Vcd", "VcdConfig"]

NO_IMAGE = ("refuse", "skip")


@dataclass(frozen=True)
class VcdConfig:
    """Options of ``vcd``; the defaults are those of the authors' code.

    Attributes:
        alpha: strength of the contrast; 0 switches the second branch off.
        beta: a token counts only if its probability with the image is at least beta times the largest one; 0 lets all count.
        noise_step: of 1000 diffusion steps, how many the image goes through; 0 to 999. The source takes 500 and, for heavy noise, 999.
        seed: of the noise. An image gets the same noise whatever stands beside it.
        on_no_image: a prompt without an image is refused ("refuse"), or answered as if the method were not there ("skip").
    """

    alpha: float = 1.0
    beta: float = 0.1
    noise_step: int = 500
    seed: int = 42
    on_no_image: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_fraction("alpha", self.alpha, high=100.0))
        object.__setattr__(self, "beta", check_fraction("beta", self.beta))
        alpha_bar(self.noise_step)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise UsageError(f"the option seed is {self.seed!r}; expected a whole number, 0 or larger")
        if self.on_no_image not in NO_IMAGE:
            raise UsageError(f"the option on_no_image is {self.on_no_image!r}; expected one of: {', '.join(NO_IMAGE)}")


class Vcd(Intervention):
    """Visual contrastive decoding.

    Works with greedy decoding, sampling, beams, batches, static caches and plain forward passes; costs a second forward pass for
    every token and a second cache. Refuses videos, images that were encoded elsewhere, and models that encode images outside of
    the part that writes (InstructBLIP).
    """

    name = "vcd"
    source = (
        "Leng et al., 2023, arXiv 2311.16922. Differs from it: greedy decoding is possible (the authors' code only samples); the "
        "noise is seeded per image, so that an answer does not depend on its neighbours"
    )
    Config = VcdConfig

    def attach(self, module: nn.Module) -> SecondBranch:
        return _NoisedBranch(module, self.config)

    def answer(
        self, answerer: Answerer, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, **generate_kwargs: Any
    ) -> list[Answer]:
        """See ``Intervention.answer``. Every question gets the pixels of its own: features that were encoded before have no noise."""
        kwargs = {"share_pictures": False, **generate_kwargs}
        return super().answer(answerer, questions, max_new_tokens=max_new_tokens, batch_size=batch_size, **kwargs)


class _NoisedBranch(SecondBranch):
    def __init__(self, module: nn.Module, config: VcdConfig) -> None:
        super().__init__(module, Vcd.name)
        if self.driver is not module:
            raise Refused(
                f"vcd cannot reach the images of {type(module).__name__}: they are encoded outside of the part that writes",
                hint="use a model whose forward takes pixel_values and tokens, such as LLaVA or Qwen-VL",
            )
        self.config = config
        self.neutral = config.alpha == 0 and config.beta == 0
        self._encodings = Encodings(module)

    def __enter__(self) -> SecondBranch:
        self._encodings.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self._encodings.__exit__()
            raise

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._encodings.__exit__()

    def inputs(self, call: Call) -> dict[str, Any] | None:
        kwargs = call.kwargs
        if not call.prefill:
            self._encodings.note({}, None)
            return kwargs
        encoded = kwargs.get("mm_encoder_outputs") or {}
        if kwargs.get("pixel_values_videos") is not None or encoded.get("video") is not None:
            raise Refused("vcd adds noise to images and has no published rule for videos", hint="ask about single frames")
        if kwargs.get("pixel_values") is not None:
            return {**kwargs, "pixel_values": self._noised(kwargs)}
        if encoded.get("image") is not None:
            again = self._encodings.again(encoded["image"], lambda given: {**given, "pixel_values": self._noised({**kwargs, **given})})
            if again is None:
                raise Refused(
                    "vcd needs the pixels, and the images were encoded before this call",
                    hint="give pixel_values to generate; with an answerer share_pictures=False",
                )
            return {**kwargs, "mm_encoder_outputs": {**encoded, "image": self._expanded(call, encoded["image"], again)}}
        if kwargs.get("input_ids") is None:
            raise Refused("vcd needs the pixels and got embeddings alone", hint="give input_ids and pixel_values")
        if self.config.on_no_image == "refuse":
            raise Refused("vcd contrasts images, and this prompt has none", hint='set on_no_image="skip" to answer such prompts plainly')
        return None

    def combine(self, call: Call, logits: Tensor, other: Tensor) -> Tensor:
        return contrasted(logits, other, self.config.alpha, self.config.beta)

    def _noised(self, kwargs: dict[str, Any]) -> Tensor:
        pixels: Tensor = kwargs["pixel_values"]
        frames = 1
        if kwargs.get("image_grid_thw") is not None:
            frames = int(getattr(getattr(self.module.config, "vision_config", None), "temporal_patch_size", 1))
        noise = noise_like(pixels, self.config.seed, grids=kwargs.get("image_grid_thw"), frames=frames)
        return diffused(pixels, noise, self.config.noise_step)

    def _expanded(self, call: Call, encoded: Any, again: Any) -> Any:
        """Features for every beam or returned sequence, where ``generate`` has repeated the rows since it encoded the images."""
        have, need = (sum(len(part) for part in output.pooler_output) for output in (again, encoded))
        if have == need:
            return again
        copies = need // have
        ids = call.kwargs["input_ids"][::copies]
        # The library's own way of repeating features: which image belongs to which row is its knowledge.
        expand: Any = self.module._expand_multimodal_outputs
        return expand(ids, {"image": again}, expand_size=copies)["image"]
