from __future__ import annotations

import pytest
import torch

from toolkit.devices import pick_device, pick_dtype
from toolkit.errors import MissingError, UsageError

CPU = torch.device("cpu")


def test_auto_takes_the_first_accelerator_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert pick_device("auto") == torch.device(expected)
    assert pick_device(CPU) == CPU


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there_is_an_error_and_no_fallback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(MissingError, match=f"device '{name}' was asked for") as caught:
        pick_device(name)
    assert caught.value.hint == "use --device auto or --device cpu"


def test_the_number_of_the_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(MissingError, match="this machine has 2"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "cpu:0", "cuda:x", "cuda:", "CUDA", "", "cuda:-1"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no device called"):
        pick_device(name)


def test_auto_dtype_fits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("auto", torch.device("mps")) == torch.float16
    for capability, expected in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert pick_dtype("auto", torch.device("cuda")) == expected


def test_named_dtypes() -> None:
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    assert pick_dtype(torch.float32, CPU) == torch.float32
    with pytest.raises(UsageError, match="float16 on the CPU"):
        pick_dtype("float16", CPU)
    with pytest.raises(UsageError, match="no dtype called") as caught:
        pick_dtype("float64", CPU)
    assert "'float32'" in str(caught.value.hint)
