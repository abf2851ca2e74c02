"""Loading of frozen models that write text: one class for causal and for image-text models, whole, safe, on the devices asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit import quantize
from toolkit.devices import pick_device, pick_dtype
from toolkit.errors import ModelConfigError, ModelNotFound, PermafrostError, UsageError, unknown_name
from toolkit.models import weights
from toolkit.models.library import first_line, quiet, without_versions
from toolkit.types import JSON

FORMAT = 1
"""Raised when this code changes answers, so that old results are not taken for new ones."""
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
DeviceMap = str | Mapping[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model from a folder.

    Attributes:
        module: the library's model, in eval mode, without gradients, on its devices.
        identity: hashes and configurations of all that was loaded, for the fingerprint.
        info: facts for the record: dtype, devices, what was quantised.
    """

    module: Any
    identity: JSON
    info: Mapping[str, JSON] = field(default_factory=dict)


def load_folder(
    folder: Path, kinds: Sequence[str], *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto",
    quantise: int | None = None, device_map: DeviceMap | None = None, allow_pickle: bool = False, hint: str | None = None,
) -> Loaded:  # fmt: skip
    """A frozen model with all its weights from ``folder``, by the first of ``kinds`` that knows its configuration.

    Args:
        kinds: names of transformers' automatic classes.
        quantise: 4 or 8 bits for the decoder's weights (toolkit.quantize), or None.
        device_map: "auto" and the like spread the model over all devices, CPU and disk included; a mapping from module paths to devices
            (``0``, ``"cuda:1"``, ``"cpu"``, ``"disk"``) says where each part goes; text that starts with ``{`` is such a mapping as JSON.
    Raises: ModelNotFound, UnsafeLoadError, ModelConfigError, UsageError. It never gives a random or partly random model.
    """
    place = pick_device(device)
    number_format = pick_dtype(dtype, place)
    if not (folder / "config.json").is_file():
        raise ModelNotFound(f"{folder} holds no config.json", hint=hint)
    weights.refuse_remote_code(folder)
    files = weights.find_weights(folder, ["model.safetensors"], ["pytorch_model.bin"], allow_pickle=allow_pickle)
    pickled = files[0].suffix != ".safetensors"
    for file in files if pickled else ():
        weights.check_pickle(file)
    cls, config = _find_class(folder, kinds, hint)
    settings: dict[str, Any] = {"dtype": number_format, "use_safetensors": not pickled}
    empty = _empty_model(cls, config) if quantise is not None or device_map is not None else None
    spec = None
    if empty is not None and quantise is not None:
        if getattr(config, "quantization_config", None):
            raise UsageError(f"the weights in {folder} are quantised already", hint="leave --load-in-4bit and --load-in-8bit away")
        spec = quantize.plan(empty, quantise, number_format)
        settings["quantization_config"] = spec.config()
    if empty is not None and device_map is not None:
        module = _load_spread(cls, folder, config, settings | {"device_map": _check_map(device_map, empty, quantise)})
    else:
        single = {"device_map": {"": place}} if spec is not None or place.type != "cpu" else {}
        module = _load(cls, folder, config, settings | single)
    module.eval().requires_grad_(False)
    info: dict[str, JSON] = {"dtype": str(number_format).removeprefix("torch."), "devices": _devices(module)}
    if spec is not None:
        info["quantised"] = quantize.audit(module, spec)
        quantize.settle(module)
    identity = {
        "config": without_versions(config.to_dict()),
        "weights": weights.hash_files(files),
        "tokenizer": weights.hash_tokenizer(folder),
        "processor": weights.hash_files(path for path in _processor_files(folder)),
        "quantised": quantise,
        "dtype": str(number_format),
        "format": FORMAT,
    }
    return Loaded(module, identity, info)


def load_processor(folder: Path) -> Any:
    """The processor in a model folder. Raises: ModelConfigError: it is missing, damaged, or of a kind that needs code of its own."""
    from transformers import AutoProcessor

    try:
        with quiet():
            return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged tokenizer.json raises plain Exception
        raise ModelConfigError(
            f"the processor in {folder} cannot be loaded: {first_line(error)}",
            hint="expected are preprocessor_config.json or processor_config.json and the tokenizer's files",
        ) from error


def identity_in_memory(module: Any, processor: Any) -> JSON:
    """Configuration, weights and processor as they are now. Weights on the disk are read in, one after the other."""
    state = module.state_dict()
    if any(value.device.type == "meta" for value in state.values() if isinstance(value, Tensor)):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        state = get_state_dict_offloaded_model(module)
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}:".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    tokenizer = getattr(processor.tokenizer, "backend_tokenizer", None)
    words = tokenizer.to_str() if tokenizer is not None else str(sorted(processor.tokenizer.get_vocab().items()))
    return {
        "config": without_versions(module.config.to_dict()),
        "weights": digest.hexdigest(),
        "tokenizer": hashlib.sha256(words.encode()).hexdigest(),
        "processor": hashlib.sha256(processor.image_processor.to_json_string().encode()).hexdigest(),
        "template": str(getattr(processor, "chat_template", None)),
        "format": FORMAT,
    }


def input_device(module: Any) -> torch.device:
    """Where the inputs of ``module`` belong: the device that its first part computes on, also when weights lie on the disk."""
    hook = getattr(module, "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    if place is not None:
        return torch.device(place)
    return next((parameter.device for parameter in module.parameters() if parameter.device.type != "meta"), torch.device("cpu"))


def _find_class(folder: Path, kinds: Sequence[str], hint: str | None) -> tuple[Any, Any]:
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # configuration classes raise errors of their own
        raise ModelConfigError(f"{folder} is of a kind that transformers does not know: {first_line(error)}", hint=hint) from error
    known = [getattr(transformers, kind) for kind in kinds]
    found = [kind._model_mapping[type(config)] for kind in known if type(config) in kind._model_mapping]
    if not found:
        raise ModelConfigError(f"{folder} is a {config.model_type} model, which writes no text", hint=hint)
    return (found[0][0] if isinstance(found[0], (list, tuple)) else found[0]), config


def _empty_model(cls: Any, config: Any) -> Any:
    """The model without memory for its weights: for its module paths."""
    from accelerate import init_empty_weights

    try:
        with init_empty_weights():
            return cls(config)
    except Exception as error:
        raise ModelConfigError(f"a {cls.__name__} cannot be built from its configuration: {first_line(error)}") from error


def _check_map(device_map: DeviceMap, empty: Any, quantise: int | None) -> Any:
    if isinstance(device_map, str) and device_map.lstrip().startswith("{"):
        try:
            device_map = dict(json.loads(device_map))
        except ValueError as error:
            raise UsageError(f"the device map is not JSON: {error}", hint='for example: {"": 0} or auto') from error
    if isinstance(device_map, str):
        if device_map not in MAPS:
            raise unknown_name("device map", device_map, MAPS)
        return device_map
    from accelerate.utils import check_device_map

    places = {str(value) for value in device_map.values()}
    for value in places - {"disk"}:
        pick_device(f"cuda:{value}" if value.isdecimal() else value)
    known = {name for name, _ in [*empty.named_modules(), *empty.named_parameters()]}
    for name in device_map:
        if name not in known:
            raise unknown_name("module", name, known)
    if quantise is not None and places & {"cpu", "disk"} and places != {"cpu"}:
        raise UsageError("quantised weights cannot lie partly on the CPU or the disk", hint="give devices only, or leave --load-in away")
    try:
        check_device_map(empty, dict(device_map))
    except ValueError as error:
        raise UsageError(f"the device map leaves modules without a device: {first_line(error)}") from error
    return dict(device_map)


def _load_spread(cls: Any, folder: Path, config: Any, settings: Mapping[str, Any]) -> Any:
    """The model over several devices, with a folder for what lies on the disk that goes when the model goes."""
    offload = tempfile.TemporaryDirectory(prefix="permafrost-offload-")
    try:
        module = _load(cls, folder, config, {**settings, "offload_folder": offload.name})
    except BaseException:
        offload.cleanup()
        raise
    weakref.finalize(module, offload.cleanup)
    return module


def _load(cls: Any, folder: Path, config: Any, settings: Mapping[str, Any]) -> Any:
    try:
        with quiet():
            module, info = cls.from_pretrained(
                folder, config=config, output_loading_info=True, local_files_only=True, trust_remote_code=False, weights_only=True,
                **settings,
            )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise ModelConfigError(f"{folder} does not fit on the device: {first_line(error)}", hint="use --device-map auto") from error
    except PermafrostError:
        raise
    except Exception as error:  # safetensors, torch, accelerate and configuration classes each raise errors of their own
        raise ModelConfigError(f"{folder} cannot be loaded as a {cls.__name__}: {first_line(error)}") from error
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info.get("mismatched_keys", ()))
    if missing:
        raise ModelConfigError(
            f"{folder} lacks {len(missing)} weights, the first is {missing[0]}: the model would be random in part",
            hint="the files belong to another configuration or are incomplete; download or save the model again",
        )
    unused = sorted(info.get("unexpected_keys", ()))
    if unused:
        _log.warning("%s holds %d weights that a %s has no place for, such as %s", folder, len(unused), cls.__name__, unused[0])
    return module


def _devices(module: Any) -> list[str]:
    spread = getattr(module, "hf_device_map", None)
    if spread and len({str(value) for value in spread.values()}) > 1:
        return sorted({f"cuda:{value}" if isinstance(value, int) else str(value) for value in spread.values()})
    return sorted({str(parameter.device) for parameter in module.parameters()})


def _processor_files(folder: Path) -> list[Path]:
    names = ("preprocessor_config.json", "processor_config.json", "chat_template.json", "chat_template.jinja")
    return [folder / name for name in names if (folder / name).is_file()] + sorted((folder / "qformer_tokenizer").glob("*.json"))
