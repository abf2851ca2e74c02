"""DoLa: what the last layer knows and an earlier one does not. No image is looked at; it is a rival from text-only decoding.

The hidden state behind some premature layer goes through the model's own head, and the next token is chosen by the difference of
the log-probabilities. Which layer is premature is decided anew for every token: of the candidates the one whose distribution is
farthest from the last layer's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from toolkit.attention.registry import allow_compiling
from toolkit.errors import Refused, UsageError
from toolkit.hooks import HookSession
from toolkit.methods.interventions.base import Intervention
from toolkit.methods.interventions.branches import Prompts, driver_of, forbid_compiling_of, last_positions, named_inputs
from toolkit.methods.interventions.decoding import check_fraction, plausible
from toolkit.sites import known_sites, resolve
from toolkit.types import JSON, Answer, Question

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

__all__ = ["Dola", "DolaConfig", "candidate_layers", "contrast_layers", "divergence", "farthest_layer"]

BUCKETS = ("low", "high")
DIVERGENCES = ("js", "mixture")


def candidate_layers(layers: str | Sequence[int], depth: int, *, tied: bool = False) -> tuple[int, ...]:
    """The premature layers to choose from. Layer j is the hidden state behind j blocks; 0 is the embedding.

    "low" and "high" are every second layer of the lower and the upper half, of at most 40 layers; of deeper models, the lowest and
    the uppermost twenty. Where the head is tied to the embedding, low layers begin at 2: layer 0 would only repeat the input token.

    Args:
        layers: "low", "high" or a list.
        depth: number of blocks of the language model.
        tied: whether head and embedding share their weights.
    Raises: UsageError: for a layer that is not in 0 to depth - 1.
    Source: Chuang et al., 2023, arXiv 2309.03883, section 2.2 (buckets), and the buckets of transformers' dola_layers.

    >>> candidate_layers("low", 32), candidate_layers("high", 32)
    ((0, 2, 4, 6, 8, 10, 12, 14), (16, 18, 20, 22, 24, 26, 28, 30))
    >>> candidate_layers("low", 80, tied=True)
    (2, 4, 6, 8, 10, 12, 14, 16, 18)
    """
    if isinstance(layers, str):
        start = 0 if not tied or depth < 2 else 2 if depth > 2 else 1
        half = depth // 2
        if layers == "high":
            return tuple(range(half if depth <= 40 else depth - 20, depth, 2))
        return tuple(range(start, half if depth <= 40 else 20, 2)) or (start,)
    outside = [layer for layer in layers if not 0 <= layer < depth]
    if outside:
        raise UsageError(
            f"there is no premature layer {outside[0]} in a model of {depth} layers", hint=f"use 0 (the embedding) to {depth - 1}"
        )
    return tuple(sorted(set(layers)))


def divergence(mature: Tensor, premature: Tensor, kind: str = "js") -> Tensor:
    """How far two next-token distributions are from each other.

    With M = (p + q) / 2, "js" is (KL(p || M) + KL(q || M)) / 2, the Jensen-Shannon divergence that the paper names, in [0, ln 2];
    "mixture" is (KL(M || p) + KL(M || q)) / 2, which the authors' code computes.

    Args:
        mature, premature: (..., V) float logits.
    Returns: (...) float32, not negative.
    Source: arXiv 2309.03883, section 2.2.

    >>> divergence(torch.tensor([50.0, 0.0]), torch.tensor([0.0, 50.0]))
    tensor(0.6931)
    """
    p, q = mature.float().log_softmax(dim=-1), premature.float().log_softmax(dim=-1)
    m = torch.logaddexp(p, q) - math.log(2)
    if kind == "mixture":
        return (m.exp() * (m - (p + q) / 2)).sum(dim=-1).clamp(min=0)
    return ((p.exp() * (p - m)).sum(dim=-1) + (q.exp() * (q - m)).sum(dim=-1)).clamp(min=0) / 2


def farthest_layer(mature: Tensor, premature: Sequence[Tensor], kind: str = "js") -> tuple[Tensor, Tensor]:
    """M = argmax over the candidates j of d(q_N, q_j), for each row by itself; of equal ones the lowest.

    Args:
        mature: (..., V) float logits of the last layer.
        premature: the same for each candidate.
    Returns: (...) int64 positions in ``premature``, and (J, ...) float32 divergences.
    Source: arXiv 2309.03883, section 2.2. Differs from the authors' code: that takes one layer for a whole batch, from the mean
        of its rows, so that an answer depends on its neighbours.
    """
    distances = torch.stack([divergence(mature, logits, kind) for logits in premature])
    return distances.argmax(dim=0), distances


def contrast_layers(mature: Tensor, premature: Tensor, relative_top: float = 0.1) -> Tensor:
    """F(q_N, q_M) = log q_N - log q_M for the plausible tokens, -inf for the rest.

    Args:
        mature, premature: (..., V) float logits.
        relative_top: a token is plausible if q_N >= relative_top * max q_N.
    Returns: (..., V) float32.
    Source: arXiv 2309.03883, section 2.3.

    >>> contrast_layers(torch.tensor([4.0, 4.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])).softmax(-1)
    tensor([0.1192, 0.8808, 0.0000])
    """
    # The plausible set is that of the log-probabilities: it is the same for logits, and rounding must not tell them apart.
    difference = mature.float().log_softmax(dim=-1) - premature.float().log_softmax(dim=-1)
    return difference.masked_fill(~plausible(mature.float(), relative_top), -math.inf)


@dataclass(frozen=True)
class DolaConfig:
    """Options of ``dola``.

    Attributes:
        layers: the premature layers to choose from: "high" (the source's choice for short answers), "low" (for long reasoning), or a
            list of layers (one: a static contrast). Layer 0 is the embedding. An empty list changes nothing.
        relative_top: a token counts only if its probability is at least this times the largest one; 0 lets all count.
        divergence: "js", the Jensen-Shannon divergence that the paper names, or "mixture", what its code computes.
        final_norm: put the last norm of the model before the head also for premature layers. The source does not.
        repetition_penalty: of ``generate``, when answers are asked for through an answerer. The source takes 1.2 for long texts.
    """

    layers: str | Sequence[int] = "high"
    relative_top: float = 0.1
    divergence: str = "js"
    final_norm: bool = False
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.layers, str):
            if self.layers not in BUCKETS:
                raise UsageError(f"the option layers is {self.layers!r}", hint="high, low, or a list such as [0, 2, 4]")
        else:
            wrong = [layer for layer in self.layers if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0]
            if wrong:
                raise UsageError(f"the option layers has {wrong[0]!r}; expected whole numbers, 0 (the embedding) or larger")
            object.__setattr__(self, "layers", tuple(self.layers))
        if self.divergence not in DIVERGENCES:
            raise UsageError(f"the option divergence is {self.divergence!r}; expected one of: {', '.join(DIVERGENCES)}")
        if not isinstance(self.final_norm, bool):
            raise UsageError(f"the option final_norm is {self.final_norm!r}; expected true or false")
        object.__setattr__(self, "relative_top", check_fraction("relative_top", self.relative_top))
        object.__setattr__(self, "repetition_penalty", check_fraction("repetition_penalty", self.repetition_penalty, low=1e-6, high=100))


class Dola(Intervention):
    """Decoding by contrasting layers, for every decoder whose head is a linear map, without code from the Hub.

    Works with greedy decoding, sampling, beams, batches, caches of every kind and plain forward passes, at the price of one more
    product with the head for each candidate. Refuses language models with an encoder (their layers are no sequence of guesses at
    the next token), and models that change their logits behind the head in a way that is not known.
    """

    name = "dola"
    source = (
        "Chuang et al., 2023, arXiv 2309.03883. Differs from it: the premature layer is chosen for each row of a batch by itself, "
        "by the divergence that the paper names; the authors' code takes one layer for the whole batch"
    )
    Config = DolaConfig

    def attach(self, module: nn.Module) -> DolaAttachment:
        if self.config.repetition_penalty != 1.0:
            raise Refused(
                "dola is attached to a model, and a repetition penalty belongs to generate",
                hint=f"leave the option out and call generate(repetition_penalty={self.config.repetition_penalty:g})",
            )
        return DolaAttachment(module, self.config)

    def answer(
        self, answerer: Answerer, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, **generate_kwargs: Any
    ) -> list[Answer]:
        """See ``Intervention.answer``; the repetition penalty goes to ``generate``."""
        penalty = self.config.repetition_penalty
        if penalty != 1.0:
            bare = Dola(self.config, repetition_penalty=1.0)
            kwargs = {"repetition_penalty": penalty, **generate_kwargs}
            return bare.answer(answerer, questions, max_new_tokens=max_new_tokens, batch_size=batch_size, **kwargs)
        return super().answer(answerer, questions, max_new_tokens=max_new_tokens, batch_size=batch_size, **generate_kwargs)


class DolaAttachment:
    """DoLa on one model, see ``Dola``."""

    def __init__(self, module: nn.Module, config: DolaConfig) -> None:
        self.config = config
        self.driver = driver_of(module, Dola.name)
        self.depth = known_sites(self.driver).get("lm.block", 0)
        if not self.depth or "lm.norm" not in known_sites(self.driver):
            raise Refused(f"dola needs the layers of a decoder, and those of {type(self.driver).__name__} are not known")
        self.head, self.norm = resolve(self.driver, "lm.head"), resolve(self.driver, "lm.norm")
        tied = getattr(self.head, "weight", None) is getattr(resolve(self.driver, "lm.embed"), "weight", self)
        self.layers = candidate_layers(config.layers, self.depth, tied=tied)
        self.decisions: list[dict[str, JSON]] = []
        config_of_text = getattr(getattr(self.driver, "config", None), "get_text_config", lambda: None)()
        self._cap = getattr(config_of_text, "final_logit_softcapping", None)
        self._states: dict[int, Tensor] = {}
        self._kwargs: dict[str, Any] = {}
        self._prompts, self._begins = Prompts(), False
        self._checked = False
        self._session = HookSession(self.driver)
        if self.layers:
            self._session.before("model", self._begin)
            for layer in self.layers:
                keep = functools.partial(self._keep, layer)
                if layer == 0:
                    self._session.edit_input("lm.block:0", keep)
                else:
                    self._session.edit(f"lm.block:{layer - 1}", keep)
            self._session.edit("lm.norm", functools.partial(self._keep, self.depth))
            self._session.edit("model", self._contrast)

    def __enter__(self) -> DolaAttachment:
        if self.layers:
            forbid_compiling_of(self.driver, self)
        self._session.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._session.close()
        allow_compiling(self)
        self._states, self._kwargs, self._checked = {}, {}, False
        self._prompts = Prompts()

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._kwargs, self._states = named_inputs(self.driver, args, kwargs), {}
        self._begins = self._prompts.begins(self._kwargs)

    def _keep(self, layer: int, hidden: Tensor) -> Tensor:
        """Remember the positions that logits are made for; the hidden states of a whole prompt would cost as much as the peers'."""
        kept = self._kwargs.get("logits_to_keep", 0)
        if isinstance(kept, Tensor):
            self._states[layer] = hidden[:, kept]
        else:
            self._states[layer] = hidden[:, -kept:] if kept else hidden
        return hidden

    def _logits(self, hidden: Tensor, like: Tensor) -> Tensor:
        """What the model would make of a hidden state: its head, and the soft cap behind it where it has one."""
        place = getattr(self.head, "weight", hidden).device
        # Weights that are off the device until they are needed: what brings them in also moves the input.
        hidden = hidden if place.type == "meta" else hidden.to(place)
        logits = cast(Tensor, self.head(hidden)).to(like.device).float()
        return logits if self._cap is None else self._cap * torch.tanh(logits / self._cap)

    def _contrast(self, logits: Tensor) -> Tensor:
        states, self._states = self._states, {}
        kwargs, self._kwargs = self._kwargs, {}  # they hold the model's cache, which must not live longer than its generate call
        if logits.ndim != 3:
            raise Refused("dola changes logits, and this call also asks for a loss", hint="leave the labels out")
        if logits.requires_grad:
            raise Refused("dola is for inference, and this call records gradients", hint="use torch.no_grad()")
        with torch.no_grad():
            self._check(logits, states)
            premature = [self._logits(self._normed(states[layer]), logits) for layer in self.layers]
            places, distances = farthest_layer(logits, premature, self.config.divergence)
            chosen = torch.stack(premature).gather(0, places[None, ..., None].expand(-1, -1, -1, logits.shape[-1]))[0]
            changed = contrast_layers(logits, chosen, self.config.relative_top)
            if self._begins:
                self._decide(kwargs, logits, changed, places, distances)
        return changed.to(logits.dtype)

    def _normed(self, hidden: Tensor) -> Tensor:
        # The norm's forward and not the module: what hangs on the module waits for the last layer alone.
        return cast(Tensor, self.norm.forward(hidden)) if self.config.final_norm else hidden

    def _check(self, logits: Tensor, states: dict[int, Tensor]) -> None:
        """Once: the head on the last hidden state must give the model's own logits, or the premature ones mean something else."""
        if self._checked:
            return
        last = self._logits(states[self.depth][:, -1:], logits)
        coarse = 1e-4 if logits.dtype == torch.float32 else 0.05  # half precision rounds once more on the way out
        scale = logits[:, -1:].float().abs().amax().clamp(min=1.0)
        if not bool(((last - logits[:, -1:].float()).abs() <= coarse * scale).all()):
            raise Refused(
                f"dola cannot read the layers of {type(self.driver).__name__}: it changes its logits behind the head in a way not known",
                hint="use another method",
            )
        self._checked = True

    def _decide(self, kwargs: dict[str, Any], logits: Tensor, changed: Tensor, places: Tensor, distances: Tensor) -> None:
        rows = torch.arange(logits.shape[0], device=logits.device)
        last = last_positions(kwargs, logits)
        before, after, layers = logits[rows, last].argmax(-1), changed[rows, last].argmax(-1), places[rows, last]
        far = distances[:, rows, last].T
        for plain, token, place, divergences in zip(before.tolist(), after.tolist(), layers.tolist(), far.tolist(), strict=True):
            self.decisions.append(
                {
                    "plain_token": plain,
                    "token": token,
                    "premature_layer": self.layers[place],
                    "divergence": dict(zip(map(str, self.layers), (round(value, 6) for value in divergences), strict=True)),
                }
            )
