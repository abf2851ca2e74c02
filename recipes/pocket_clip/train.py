"""Training of pocket-clip with transformers.Trainer: checkpoints, exact resume, bfloat16 autocast on CPU and GPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import CLIPModel, DataCollator, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from recipes.pocket_clip import model as M


class Draws(Dataset):  # type: ignore[type-arg]
    """The numbers 0 .. n - 1; the collator turns a list of them into a batch, so a batch depends on nothing but its numbers."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


class ClipTrainer(Trainer):
    """Contrastive training with dropped patch tokens; the last ``full_share`` of the steps sees all tokens."""

    keep = M.TOKENS // 2
    full_share = 0.06

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)  # the draws are random already; in order they resume exactly

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        late = self.state.global_step >= (1 - self.full_share) * self.state.max_steps
        clip = getattr(model, "module", model)
        M.clamp_scale(clip)
        with self.accelerator.autocast():  # Trainer wraps only model.forward, which is not what runs here
            images = M.image_embeddings(clip, inputs["pixels"], M.TOKENS if late else self.keep)
            texts = M.text_embeddings(clip, inputs["ids"])
        loss = M.multi_positive_loss(images, texts, inputs["positive"], clip.logit_scale.exp())
        return (loss, {}) if return_outputs else loss


class RegionTrainer(ClipTrainer):
    """The second stage: whole photos and regions of photos against texts, with all patch tokens."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, **_: Any) -> Any:
        clip = getattr(model, "module", model)
        M.clamp_scale(clip)
        with self.accelerator.autocast():
            tokens = M.token_embeddings(clip, inputs["pixels"])
            texts = M.text_embeddings(clip, inputs["ids"])
            probes = M.text_embeddings(clip, inputs["probe_ids"].flatten(0, 1)).unflatten(0, inputs["probe_ids"].shape[:2])
        scale = clip.logit_scale.exp()
        loss = M.multi_positive_loss(M.row_embeddings(tokens, inputs["row_image"], inputs["row_weights"]), texts, inputs["positive"], scale)
        twins = tokens[inputs["probe_start"] : inputs["probe_start"] + len(inputs["probe_kind"])]
        loss = loss + M.probe_loss(twins, inputs["probe_kind"], inputs["probe_category"], probes, scale)
        return (loss, {}) if return_outputs else loss


class Log(TrainerCallback):
    """One JSON line for each logging step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


def fit(
    model: CLIPModel, batches: DataCollator, work: Path, *, steps: int, batch_size: int, lr: float, seed: int, threads: int,
    trainer_class: type[ClipTrainer] = ClipTrainer, save_steps: int = 200,
) -> CLIPModel:  # fmt: skip
    """Train until ``steps``, from the newest checkpoint in ``work`` if there is one."""
    cuda = torch.cuda.is_available()
    if not cuda:
        torch.set_num_threads(threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments = TrainingArguments(
        output_dir=str(work / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=lr,
        weight_decay=0.1,
        adam_beta2=0.98,
        warmup_steps=min(250, steps // 10),
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=not cuda,
        logging_steps=20,
        save_steps=save_steps,
        save_total_limit=2,
        seed=seed,
        report_to=[],
        remove_unused_columns=False,
        dataloader_num_workers=8 if cuda else 0,
        disable_tqdm=False,
        average_tokens_across_devices=False,
    )
    trainer = trainer_class(
        model=model, args=arguments, train_dataset=Draws(steps * batch_size), data_collator=batches, callbacks=[Log(work / "train.jsonl")]
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work / "checkpoints")) if (work / "checkpoints").is_dir() else None)
    return model
