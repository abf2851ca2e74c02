"""Training of pocket-llava with transformers.Trainer, through the same ``fit`` as pocket-clip."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recipes.pocket_clip.train import ClipTrainer
from recipes.pocket_llava import model as M


class AnswerTrainer(ClipTrainer):
    """Cross entropy of the answers."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        with self.accelerator.autocast():
            loss = M.answer_loss(getattr(model, "module", model), inputs)
        return (loss, {}) if return_outputs else loss
