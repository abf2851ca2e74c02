"""Questions in the words that a model was trained on: its chat template, or the plain prompt that its family documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from toolkit.errors import ModelConfigError, UsageError
from toolkit.models.library import first_line
from toolkit.types import Question


class Plain(NamedTuple):
    """A documented prompt without chat template: ``image`` once for every picture, then the question in ``text``.

    Attributes:
        needs_text_model: the type of the language side for which it is documented; None for all.
        pictures: how many pictures a question may and must have at most and at least; None for any number.
    """

    image: str
    text: str
    needs_text_model: str | None = None
    pictures: int | None = None


# From the model pages of transformers' documentation. Families that are missing here come with a chat template or not at all.
PLAIN: Mapping[str, Plain] = {
    "llava": Plain("<image>\n", "USER: {images}{question} ASSISTANT:", "llama"),
    "vipllava": Plain(
        "<image>\n",
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite "
        "answers to the human's questions.###Human: {images}{question}###Assistant:",
        "llama",
    ),
    "paligemma": Plain("<image>", "{images}{question}"),
    "instructblip": Plain("", "{question}", pictures=1),
}


class Prompter:
    """Makes prompts of questions.

    Args:
        processor: the model's processor. config: the model's configuration. name: what messages call the model.
    Raises: ModelConfigError: there is no chat template, and for this family no prompt is documented.
    """

    def __init__(self, processor: Any, config: Any, name: str) -> None:
        self.processor, self.name = processor, name
        self.template = getattr(processor, "chat_template", None) or getattr(processor.tokenizer, "chat_template", None)
        self.plain = None if self.template else _documented(config)
        self.image_token = _image_token(processor)
        self.bos = getattr(processor.tokenizer, "bos_token", None)
        if not self.template and self.plain is None:
            raise ModelConfigError(
                f"{name} has no chat template, and for {config.model_type} models no other prompt is documented",
                hint="put the template that it was trained with beside its processor as chat_template.jinja",
            )

    def render(self, question: Question) -> tuple[str, dict[str, Any]]:
        """The prompt with one image token for every picture, and what the processor is to be told about special tokens.

        Raises: UsageError: the question holds the image token, or has a number of pictures that the family cannot take.
            ModelConfigError: the chat template fails or does not place every picture.
        """
        if self.image_token and self.image_token in question.text:
            raise UsageError(
                f"the question holds {self.image_token!r}, which stands for a picture",
                hint="give pictures as images, and the text without it",
            )
        if self.plain is not None:
            return self._plain(self.plain, question), {}
        content: list[dict[str, str]] = [{"type": "image"}] * len(question.images)
        chat = [{"role": "user", "content": [*content, {"type": "text", "text": question.text}]}]
        try:
            prompt = str(self.processor.apply_chat_template(chat, self.template, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # templates are programs of their own
            raise ModelConfigError(f"the chat template of {self.name} fails: {first_line(error)}") from error
        placed = prompt.count(self.image_token) if self.image_token else len(question.images)
        if placed != len(question.images):
            raise ModelConfigError(
                f"the chat template of {self.name} places {placed} image tokens for {len(question.images)} pictures",
                hint="its template is for another kind of content; put the right chat_template.jinja beside its processor",
            )
        # the library's own rule: a prompt that begins with the start token is not given a second one
        return prompt, {"add_special_tokens": False} if self.bos and prompt.startswith(self.bos) else {}

    def _plain(self, plain: Plain, question: Question) -> str:
        count = len(question.images)
        if plain.pictures is not None and count != plain.pictures:
            raise UsageError(f"{self.name} takes exactly {plain.pictures} picture with a question, not {count}")
        return plain.text.replace("{images}", plain.image * count).replace("{question}", question.text)


def _documented(config: Any) -> Plain | None:
    plain = PLAIN.get(config.model_type)
    if plain is None or plain.needs_text_model in (None, config.get_text_config().model_type):
        return plain
    return None


def _image_token(processor: Any) -> str | None:
    token = getattr(processor, "image_token", None)
    return None if token is None else str(getattr(token, "content", token))
