from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from toolkit.images import ArrayImage, BytesImage, FileImage
from toolkit.types import ImageSource, Prediction, Sample


def test_types_cost_nothing_to_import() -> None:
    code = "import sys, toolkit.types; print('torch' in sys.modules or 'numpy' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip() == "False"


def test_our_image_sources_are_image_sources() -> None:
    for source in (FileImage(Path("x.png")), BytesImage(b""), ArrayImage(np.zeros((2, 2, 3), np.uint8))):
        assert isinstance(source, ImageSource)
    assert not isinstance(Path("x.png"), ImageSource)


def test_records_are_frozen() -> None:
    for record in (Sample("a"), Prediction("a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            record.id = "b"  # type: ignore[misc]
