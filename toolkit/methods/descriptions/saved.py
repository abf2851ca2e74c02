"""A fitted estimator in one file: safetensors with JSON beside the tensors. Nothing in it can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from toolkit.config import to_json
from toolkit.errors import DataError, DataNotFound, UsageError
from toolkit.files import atomic_write_bytes
from toolkit.methods.descriptions.pool import Pool
from toolkit.version import VERSION

if TYPE_CHECKING:
    from toolkit.methods.descriptions.estimator import ClassnameFree
    from toolkit.models.base import DualEncoder

FORMAT = 1
TENSORS = ("captions", "descriptions", "sums", "counts", "support_x", "support_y", "low", "high")


def write_estimator(model: ClassnameFree, path: str | Path) -> Path:
    """Write ``model`` to ``path``, whole or not at all."""
    from safetensors.torch import save as to_bytes

    x, y = model.support
    spans = model.spans
    tensors = dict(zip(TENSORS, (model.captions, model.d, model.sums, model.counts, x, y, *spans), strict=True))
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "options": model.options,
        "classnames": model.classnames,
        "aliases": model.aliases,
        "texts": model.pool.texts,
        "owners": model.pool.owners,
        "warnings": model.warnings,
        "keep_support": model.keep_support,
        "fingerprint": model.fingerprint,
        "w": model.remembered_weight(),
    }
    data = to_bytes({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, {"permafrost": json.dumps(to_json(facts))})
    return atomic_write_bytes(path, data)


def read_estimator(cls: type[ClassnameFree], path: str | Path, encoder: DualEncoder | None, force: bool) -> ClassnameFree:
    """Read a file of ``write_estimator``.

    Raises: DataNotFound: no such file. DataError: not such a file, or damaged. UsageError: it belongs to another encoder.
    """
    facts, tensors = _read(Path(path))
    if encoder is not None and facts["fingerprint"] != encoder.fingerprint and not force:
        raise UsageError(
            f"{path} was fitted with another encoder than {encoder.name}",
            hint="load it with the encoder that it was fitted with, or pass force=True if you know that both are the same",
        )
    names = facts["classnames"]
    pool = Pool(tuple(facts["texts"]), tuple(map(tuple, facts["owners"])), tuple(names))
    model = cls(
        encoder,
        names,
        pool,
        captions=tensors["captions"],
        descriptions=tensors["descriptions"],
        keep_support=facts["keep_support"],
        **facts["options"],
    )
    model.aliases, model.warnings, model.fingerprint = facts["aliases"], facts["warnings"], facts["fingerprint"]
    model.restore(tensors, facts["w"])  # also the unit rows as they were: scaling them again could change their last bit
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataNotFound(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("permafrost", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(f"{path} is not a saved classifier: {error}") from error
    if not isinstance(facts, dict) or set(tensors) != set(TENSORS):
        raise DataError(f"{path} is not a saved classifier")
    if facts.get("format") != FORMAT:
        raise DataError(f"{path} has format {facts.get('format')}, and this version reads format {FORMAT}", hint="fit and save it again")
    return facts, tensors
