"""Contrastive attention: image tokens whose attention does not change between an early and a late layer are masked, or what
gained attention is shown again.

    with patch(model, ContrastiveAttention(candidates="scaled")):
        model.generate(**inputs)

Source: Song, Li, Yu: Where Does Vision Meet Language? Understanding and Refining Visual Fusion in MLLMs via Contrastive Attention,
arXiv 2601.08151. No code of the authors is published, and neither are rho, lambda and the rule for crops: those are ours. Differs
from it in the default: masking by a bias on attention logits, because scaling the residual stream masks nothing in the layer itself
(see ``norm_gain``); the published form is the preset "paper-literal". Options and findings: docs/contrastive_attention.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toolkit.attention import AttentionSession, LayerEdit, Prefill
from toolkit.errors import Refused
from toolkit.methods.interventions.base import Intervention
from toolkit.methods.interventions.contrastive_attention_config import ContrastiveAttentionConfig
from toolkit.methods.interventions.contrastive_attention_decide import Decision, decide
from toolkit.methods.interventions.contrastive_attention_layers import Backbone, Layers, choose_layers
from toolkit.types import JSON, Answer, AnswerProblem, Predictor, Question

if TYPE_CHECKING:
    from toolkit.models.base import Answerer

__all__ = ["ContrastiveAttention", "layer_edit"]


class ContrastiveAttention(Intervention):
    """Contrastive attention. See the module's docstring.

    Args:
        config, options: see ``ContrastiveAttentionConfig``.
        fingerprint: of the model that it will be attached to, which a calibration file is compared with; an answerer brings its own.
    """

    name = "contrastive-attention"
    source = "Song, Li, Yu, 2026, arXiv 2601.08151; rho, lambda and the crop rule are ours, and masking is by a bias on logits"
    Config = ContrastiveAttentionConfig

    def __init__(self, config: ContrastiveAttentionConfig | None = None, *, fingerprint: str | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.fingerprint = fingerprint

    def layers(self, module: nn.Module) -> Layers:
        """The layers that the options mean on this model. Raises: Refused, DataError."""
        return choose_layers(self.config, backbone_of(module, self.fingerprint))

    def attach(self, module: nn.Module) -> Attached:
        """Raises: Refused: for modes that need more than one pass, and for layers that cannot work on this model."""
        if self.config.mode == "crop":
            raise Refused("mode=crop looks at the images twice, and a plain model has none", hint=_ANSWERER_HINT)
        if self.config.query == "first_generated":
            raise Refused("query=first_generated needs a pass of its own to generate that token", hint=_ANSWERER_HINT)
        return Attached(module, self.config, self.layers(module))

    def answer(
        self, answerer: Answerer, questions: Sequence[Question], *, max_new_tokens: int = 16, batch_size: int = 8, **generate_kwargs: Any
    ) -> list[Answer]:
        """The answers to ``questions``, in order, with the decision about each in ``info["decision"]``. Raises: Refused, DataError."""
        from toolkit.methods.interventions.contrastive_attention_passes import answer_in_two_passes, place_maps

        bound = ContrastiveAttention(self.config, fingerprint=answerer.fingerprint)
        if self.config.mode == "crop" or self.config.query == "first_generated":
            return answer_in_two_passes(bound, answerer, questions, max_new_tokens, batch_size, generate_kwargs)
        answers = Intervention.answer(
            bound, answerer, questions, max_new_tokens=max_new_tokens, batch_size=batch_size, **generate_kwargs
        )  # fmt: skip
        return place_maps(answerer, questions, answers)

    def predictor(self, answerer: Answerer, problem: AnswerProblem, *, batch_size: int = 8) -> Predictor:
        """As of every method. Layers that cannot work on this model are found here, and not once for every question."""
        ContrastiveAttention(self.config, fingerprint=answerer.fingerprint).layers(answerer.module)
        return super().predictor(answerer, problem, batch_size=batch_size)


_ANSWERER_HINT = "use ContrastiveAttention(...).answer(answerer, questions), with an answerer from load_answerer or wrap_answerer"


class Attached:
    """One attachment to one model: reads, decides and, in mode mask, edits. A context manager; see ``base.Attachment``."""

    def __init__(self, module: nn.Module, config: ContrastiveAttentionConfig, layers: Layers, forced: Tensor | None = None) -> None:
        self.config, self.layers = config, layers
        self.decisions: list[dict[str, JSON]] = []
        self.found: list[Decision | None] = []
        """The decisions about the last prompt, with their tensors."""
        self._forced = forced
        self._decided_on: Prefill | None = None
        self.session = AttentionSession(module, backend=_literal(config.backend), on_no_image=_literal(config.on_no_image))
        if forced is None:
            self._rows: Mapping[int, Tensor] = self.session.read(layers.read, query=_literal(config.query))
        if layers.review is not None:
            self.session.at_layer(layers.review, self._edit)
        self.session.on_prefill_end(self._finish)

    def __enter__(self) -> Attached:
        self.session.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return self.session.__exit__(kind, error, trace)

    def _edit(self, prefill: Prefill) -> LayerEdit | None:
        """Before the review layer: everything that it needs has been read."""
        if self._forced is not None:
            masked = torch.zeros_like(prefill.image_mask)
            masked[:, : self._forced.shape[1]] = self._forced.to(masked.device)
            return layer_edit(masked, self.config)
        self._decide(prefill)
        masked = torch.zeros_like(prefill.image_mask)
        for row, decision in enumerate(self.found):
            if decision is not None:
                masked[row, decision.positions[decision.masked].to(masked.device)] = True
        return layer_edit(masked, self.config)

    def _decide(self, prefill: Prefill) -> None:
        self.found = decide(self._rows, prefill.image_mask, prefill.views, self.config, self.layers)
        self._decided_on = prefill

    def _finish(self, prefill: Prefill) -> None:
        """After the prompt, which may have failed before: only prompts that were computed have decisions."""
        if self._forced is not None:
            return
        if self._decided_on is not prefill:  # nothing was masked: another mode, or no image in the whole batch
            self._decide(prefill)
        self._decided_on = None
        self.decisions += [record_of(decision, self.config, self.layers, prefill.notes) for decision in self.found]


def layer_edit(masked: Tensor, config: ContrastiveAttentionConfig) -> LayerEdit | None:
    """What ``where`` does to the masked tokens; None where that is nothing.

    Args:
        masked: (B, L) bool.
    """
    lam = float(config.lam or 0.0)
    if config.rho == 0 or lam == 1:
        return None
    until, phase = effective(config)
    edit: dict[str, Any] = {"until": until, "phase": phase}
    if config.where == "logit_bias":
        # ln(0) is minus infinity: the key is hidden, by a mask and not by an addition in half precision.
        bias = math.log(lam) if lam > 0 else -math.inf
        edit["logit_bias"] = torch.zeros(masked.shape, device=masked.device).masked_fill_(masked, bias)
        return LayerEdit(**edit)
    scale = torch.ones(masked.shape, device=masked.device).masked_fill_(masked, lam)
    field = {"residual": "residual_scale", "attn_input": "attn_input_scale", "kv": "kv_scale", "value": "value_scale"}[str(config.where)]
    edit[field] = scale
    return LayerEdit(**edit)


def effective(config: ContrastiveAttentionConfig) -> tuple[str, str]:
    """(until, phase) as they act: a scaled residual stays scaled, and only a bias has to be applied again in decoding."""
    until = "onward" if config.where == "residual" else config.until
    phase = config.phase if config.phase != "auto" else ("all" if config.where == "logit_bias" else "prefill")
    return until, phase


def record_of(
    decision: Decision | None, config: ContrastiveAttentionConfig, layers: Layers, kernel: Mapping[str, Any] | None = None
) -> dict[str, JSON]:
    """The JSON of one decision: layers (0-based, with the base of the options), i*, H, counts, back-end and notes."""
    notes = list(layers.notes)
    record: dict[str, JSON] = {"method": ContrastiveAttention.name, "mode": config.mode, "backend": config.backend}
    if decision is None:
        notes.append("the prompt has no image: it passed through as it is")
        record |= {"layers": layers.record(), "i_star": None, "hellinger": {}, "image_tokens": 0, "images": [], "masked": 0}
    else:
        record |= decision.record()
        if config.mode == "maps" or config.keep_maps:
            record["maps"] = decision.maps()
            if left_out := len(decision.views) - len(decision.placed_views):
                notes.append(f"{left_out} tiles whose place in the image is not known are left out of the maps")
    if config.mode == "mask":
        until, phase = effective(config)
        record["edit"] = {"where": config.where, "lam": config.lam, "rho": config.rho, "until": until, "phase": phase}
        if config.where == "residual" and config.until != "onward":
            notes.append("a scaled residual stream stays scaled: it acts from the review layer onward")
    for name, value in (kernel or {}).items():
        notes.append(f"{name.replace('_', ' ')}: {value}")
    return record | {"notes": notes}


def backbone_of(module: nn.Module, fingerprint: str | None = None) -> Backbone:
    """What is known of a model. Raises: SiteNotFound: for an unknown architecture."""
    model_config: Any = module.config
    depth = AttentionSession(module).depth
    return Backbone(model_config.model_type, model_config.get_text_config().model_type, depth, fingerprint)


def _literal(value: str) -> Any:
    """A checked option for a parameter that takes literals."""
    return value
