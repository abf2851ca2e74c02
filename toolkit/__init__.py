"""Permafrost: more out of frozen vision-language models."""
