"""PAI: pay more attention to the image. Attention logits of image tokens grow by a share of their own size, from a layer on.

As an option the next token is also contrasted with what the model would say without the image: a second branch reads the prompt
with its image tokens taken out, and writes the same tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from toolkit.attention import AttentionSession, Prefill
from toolkit.errors import Refused, SiteNotFound, UsageError
from toolkit.methods.interventions.base import Intervention
from toolkit.methods.interventions.branches import Call, SecondBranch
from toolkit.methods.interventions.decoding import check_fraction, contrasted
from toolkit.sites import known_sites, resolve
from toolkit.types import JSON

__all__ = ["Pai", "PaiConfig", "amplification", "text_only"]

NO_IMAGE = ("refuse", "skip")


def amplification(logits: Tensor, alpha: float) -> Tensor:
    """alpha |A|: what is added to the attention logits A of image keys.

    Args:
        logits: (...) float, scaled dot products before the softmax.
        alpha: strength; 0 adds nothing.
    Returns: the same shape and dtype, not negative.
    Source: Liu et al., 2024, arXiv 2407.21771, section 3.2.

    >>> amplification(torch.tensor([2.0, -1.0]), 0.5)
    tensor([1.0000, 0.5000])
    """
    return alpha * logits.abs()


def text_only(ids: Tensor, text: Tensor, pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of prompts without image tokens and padding, padded anew on the left.

    Args:
        ids: (B, L) int64. text: (B, L) bool, True for what stays: neither padding nor of an image.
        pad: what is put in on the left.
    Returns: (B, S) ids and (B, S) bool mask, S at least 1, and (B, L) int64: where each token went, -1 for those that are gone.

    >>> text_only(torch.tensor([[5, 9, 9, 6], [0, 9, 9, 7]]), torch.tensor([[1, 0, 0, 1], [0, 0, 0, 1]]).bool())[0]
    tensor([[5, 6],
            [0, 7]])
    """
    counts = text.sum(dim=-1, keepdim=True)
    length = max(int(counts.max()), 1)
    places = torch.where(text, text.cumsum(dim=-1) - 1 + length - counts, -1)
    rows = torch.arange(ids.shape[0], device=ids.device)[:, None].expand_as(ids)
    texts = torch.full((ids.shape[0], length), pad, dtype=ids.dtype, device=ids.device)
    real = torch.zeros(texts.shape, dtype=torch.bool, device=ids.device)
    texts[rows[text], places[text]] = ids[text]
    real[rows[text], places[text]] = True
    return texts, real, places


@dataclass(frozen=True)
class PaiConfig:
    """Options of ``pai``; the defaults are those of the authors' scripts, where the contrast is off.

    Attributes:
        alpha: how much of their own size the logits of image tokens gain; 0 changes no attention.
        start_layer: the first layer that is changed, from 0.
        end_layer: the layer before which it ends; None: all layers to the last.
        gamma: weight of the model with the image against itself without it; 1 switches the second branch off. The source takes 1.1,
            with sampling.
        beta: with gamma, a token counts only if its probability with the image is at least beta times the largest one.
        on_no_image: a prompt without image tokens is refused ("refuse"), or answered as if the method were not there ("skip").
    """

    alpha: float = 0.2
    start_layer: int = 2
    end_layer: int | None = None
    gamma: float = 1.0
    beta: float = 0.1
    on_no_image: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", check_fraction("alpha", self.alpha, high=100.0))
        object.__setattr__(self, "gamma", check_fraction("gamma", self.gamma, low=1.0, high=100.0))
        object.__setattr__(self, "beta", check_fraction("beta", self.beta))
        for name, layer in (("start_layer", self.start_layer), ("end_layer", self.end_layer)):
            if name == "end_layer" and layer is None:
                continue
            if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
                raise UsageError(f"the option {name} is {layer!r}; expected a layer from 0")
        if self.end_layer is not None and self.end_layer <= self.start_layer:
            raise UsageError(f"end_layer={self.end_layer} is not behind start_layer={self.start_layer}: no layer is changed")
        if self.on_no_image not in NO_IMAGE:
            raise UsageError(f"the option on_no_image is {self.on_no_image!r}; expected one of: {', '.join(NO_IMAGE)}")


class Pai(Intervention):
    """Attention amplification of image tokens, and the contrast with a prompt without the image.

    Works with greedy decoding, sampling, beams, batches and any base of exact attention. Refuses models whose images do not stand
    among the tokens (Mllama), and with gamma also those whose decoder gets embeddings alone (InstructBLIP).
    """

    name = "pai"
    source = (
        "Liu et al., 2024, arXiv 2407.21771. Differs from it: image tokens are found by their id, wherever they stand, in batches too; "
        "attention is computed by the model's own kernel, and only the row of the newest token is computed again, as in the source"
    )
    Config = PaiConfig

    def attach(self, module: nn.Module) -> PaiAttachment:
        return PaiAttachment(module, self.config)


class PaiAttachment:
    """PAI on one model, see ``Pai``."""

    def __init__(self, module: nn.Module, config: PaiConfig) -> None:
        depth = known_sites(module).get("lm.block", 0)
        end = depth if config.end_layer is None else config.end_layer
        if depth and not config.start_layer < end <= depth:
            raise UsageError(
                f"pai was asked to change layers {config.start_layer} to {end - 1}, and this model has {depth}",
                hint=f"choose start_layer and end_layer between 0 and {depth}",
            )
        self.layers: Sequence[int] = range(config.start_layer, end)
        self.decisions: list[dict[str, JSON]] = []
        self._config = config
        self._session: AttentionSession | None = None
        self._branch: SecondBranch | None = None
        if config.alpha > 0 or config.gamma > 1:
            _refuse_cross_attention(module, depth)
            self._session = AttentionSession(module, on_no_image=config.on_no_image)
            self._session.on_prefill_end(self._note)
            if config.alpha > 0:
                self._session.amplify(self.layers, functools.partial(amplification, alpha=config.alpha))
        if config.gamma > 1:
            assert self._session is not None
            self._branch = _TextBranch(module, config, self._session)

    def __enter__(self) -> PaiAttachment:
        if self._session is not None:
            self._session.__enter__()
        try:
            if self._branch is not None:
                self._branch.__enter__()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._branch is not None:
            self._branch.__exit__()
        if self._session is not None:
            self._session.close()

    def _note(self, prefill: Prefill) -> None:
        for count in prefill.image_mask.sum(dim=-1).tolist():
            row: dict[str, JSON] = {"image_tokens": count, "layers": [self.layers[0], self.layers[-1]] if self._config.alpha > 0 else []}
            self.decisions.append(row if count else {"skipped": "no image"})


def _refuse_cross_attention(module: nn.Module, depth: int) -> None:
    for layer in range(depth):
        try:
            resolve(module, f"lm.attn:{layer}")
        except SiteNotFound as error:
            raise Refused(
                f"pai raises attention to image tokens, and images enter {type(module).__name__} by cross-attention",
                hint="use a model whose images stand among the tokens",
            ) from error


class _TextBranch(SecondBranch):
    def __init__(self, module: nn.Module, config: PaiConfig, session: AttentionSession) -> None:
        super().__init__(module, Pai.name)
        self.config = config
        self.session = session  # it knows padding and images of every prompt, in whatever form the model gets its mask

    def inputs(self, call: Call) -> dict[str, Any] | None:
        ids = call.kwargs.get("input_ids")
        if ids is None:
            raise Refused("pai needs the tokens of the prompt to take the image out, and got embeddings", hint="set gamma=1")
        if call.prefill:
            prefill = self.session.prefill
            assert prefill is not None  # the session sees every prompt before this branch does
            text = (prefill.attention_mask & ~prefill.image_mask).to(ids.device)
            ids, seen, call.state["places"] = text_only(ids, text)
            if not bool(seen.any(dim=-1).all()):
                raise Refused("a prompt is nothing but an image: there is nothing to contrast it with", hint="set gamma=1")
        else:
            seen = torch.cat([call.state["mask"], torch.ones_like(ids, dtype=torch.bool)], dim=-1)
        call.state["mask"] = seen
        positions = (seen.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        wanted = call.kwargs.get("logits_to_keep", 0)
        return {
            "input_ids": ids,
            "attention_mask": seen.long(),
            "position_ids": positions,
            "use_cache": call.kwargs.get("use_cache"),
            "logits_to_keep": 1 if isinstance(wanted, int) and wanted == 1 else 0,
        }

    def combine(self, call: Call, logits: Tensor, other: Tensor) -> Tensor:
        """gamma log p(y | image, text) - (gamma - 1) log p(y | text), where a text token stands; section 3.3 of the source."""
        if logits.shape[1] > 1:  # the whole prompt: each text token has a place of its own in the prompt without the image
            places = call.state["places"][:, -logits.shape[1] :].to(other.device)
            picked = other.gather(1, places.clamp(min=0)[..., None].expand(-1, -1, other.shape[-1]))
            changed = self._contrast(logits, picked)
            return torch.where((places >= 0)[..., None], changed, logits.float())
        return self._contrast(logits, other[:, -1:])

    def _contrast(self, logits: Tensor, other: Tensor) -> Tensor:
        with_image, without = logits.float().log_softmax(dim=-1), other.float().log_softmax(dim=-1)
        return contrasted(with_image, without, self.config.gamma - 1, self.config.beta)
