"""Frozen models behind Protocols. Importing this loads no library; loading a model does."""

from toolkit.models.registry import list_models, load_answerer, load_encoder

__all__ = ["list_models", "load_answerer", "load_encoder"]
