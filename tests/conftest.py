"""Every test runs offline, on the CPU, with one thread, and leaves the user's caches alone.

The environment is set here, before any test imports torch, transformers or datasets: they read it at import.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="permafrost-tests-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(HOME / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": os.environ.get("PERMAFROST_TEST_GPU", ""),
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(HOME / "matplotlib"),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PERMAFROST_CACHE": str(HOME / "features.sqlite"),
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
)


@pytest.fixture(autouse=True)
def own_feature_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own feature cache: no test sees what another one stored."""
    monkeypatch.setenv("PERMAFROST_CACHE", str(tmp_path_factory.mktemp("cache") / "features.sqlite"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: $PERMAFROST_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("PERMAFROST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder}; set PERMAFROST_DATA to run this test")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are reported as not run where no accelerator is offered to them."""
    if os.environ.get("PERMAFROST_TEST_GPU"):
        return
    reason = pytest.mark.skip(reason="not run: needs an accelerator; set PERMAFROST_TEST_GPU=0 to offer GPU 0")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(reason)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a CLIPModel with 70,000 random weights."""
    from tests.tiny import tiny_hf_clip

    return tiny_hf_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="session")
def tiny_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA-1.5 checkpoint folder in the real format, six layers of random weights."""
    from tests.tiny_mllm import write_llava

    return write_llava(tmp_path_factory.mktemp("tiny-llava"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three classes of four small images each; a test may add to it."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("black cat", "red bag", "white dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"
