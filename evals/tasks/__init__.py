"""Tasks by name: ``folder:DIR``, ``parquet:FILE``, ``hf:NAME@REVISION``, ``bazaar/...``, the named public sets, and questions about images:
``vqav2:DIR`` and the other sets of the field, ``jsonl:FILE``.

Tasks with a name of their own take a split behind a colon: ``eurosat:train``, ``vqav2:DIR:train``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.records import SampleRecord
from evals.tasks.classify import DEFAULT_TEMPLATES, ClassifyTask, summarise
from evals.tasks.labels import Names
from evals.tasks.support import SPLITS, Spellings, Train, first_split, no_support, relabelled
from toolkit.errors import DataError, UsageError, unknown_name
from toolkit.types import Metric, Sample

if TYPE_CHECKING:
    from evals.tasks.vqa import VqaTask

BAZAAR = ("bazaar/category", "bazaar/lines", "bazaar/lines-heldout", "bazaar/lines-described", "bazaar/lines-heldout-described")
BAZAAR_VQA = "bazaar/vqa"
NAMED = ("imagenet", "imagenetv2", "cub200", "eurosat", "places365", "dtd", "flowers102", "fashion_mnist", "sign_digits")
PLACES = ("folder:", "parquet:", "hf:")
VQA = ("vqav2", "okvqa", "gqa", "vizwiz", "textvqa", "docvqa", "jsonl")


def list_tasks() -> list[str]:
    """All task names; those that end in ``:`` take a place."""
    return [*BAZAAR, BAZAAR_VQA, *NAMED, *PLACES, *(f"{kind}:" for kind in VQA)]


def get_task(
    name: str,
    *,
    data: str | Path | None = None,
    classnames: Names | str | None = None,
    templates: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """The task of that name: a ``ClassifyTask``, or a ``VqaTask`` for questions; its ``family`` says which.

    Args:
        data: local copy of a named set.
        classnames: list (label order), mapping from the data's name to ours, or a file of either. A one-element list that names an
            existing file is read as that file.
        templates: prompts with one ``{}`` instead of the task's own.
        options: of the task, such as ``split``.
    Raises: UsageError: for an unknown name or option. DataNotFound: if the data are not there. DataError: if they do not fit.
    """
    kind, _, place = name.partition(":")
    if kind in VQA or kind == BAZAAR_VQA:
        if classnames is not None or templates:
            raise UsageError(f"{name} asks questions, and takes no class names and no templates", hint="leave them away")
        return _vqa(kind, place, data, options) if kind in VQA else _bazaar_vqa(name, data, options)
    given = _names(classnames)
    if f"{kind}:" in PLACES and place:
        if data is not None:
            raise UsageError(f"{name} says itself where the data are", hint="leave --data away")
        maker: Callable[..., ClassifyTask] = {"folder": _folder, "parquet": _parquet, "hf": _hub}[kind]
        return maker(name, place, given, templates, **_known_options(maker, options, name))
    if place and kind in (*BAZAAR, *NAMED):
        if options.setdefault("split", place) != place:
            raise UsageError(f"{name} names the split {place!r}, and the option split={options['split']} another one")
        name = kind
    if name in BAZAAR:
        from evals.tasks.bazaar import load_bazaar

        if data is not None:
            raise UsageError(f"{name} is made on the fly and takes no data", hint="leave --data away")
        task = load_bazaar(name, given, templates, **_known_options(load_bazaar, options, name))
        return replace(task, train=_with_places(name, task.classnames, task.train)) if task.train else task
    if name in NAMED:
        from evals.tasks.named import load_named

        task = load_named(name, None if data is None else Path(data), given, templates, **_known_options(load_named, options, name))
        return replace(task, train=_with_places(name, task.classnames, task.train, task.spellings)) if task.train else task
    raise unknown_name("task", f"{kind}:" if place else name, list_tasks())


def summarise_family(family: str, records: Sequence[SampleRecord], manifest: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of a run from its records and manifest alone."""
    if family == "vqa":
        from evals.tasks.vqa import find_scorers
        from evals.tasks.vqa import summarise as summarise_answers

        used = [f"{name}@{version}" for name, version in (manifest.get("scorers") or {}).items()]
        return summarise_answers(records, find_scorers(used) if used else ())
    if family != "classify" or not manifest.get("classnames"):
        raise DataError(f"this version does not know how to score a run of the kind {family!r}")
    return summarise(records, len(manifest["classnames"]))


def _vqa(kind: str, place: str, data: str | Path | None, options: Mapping[str, Any]) -> VqaTask:
    """``vqav2:DIR``, ``vqav2:DIR:val``, or ``vqav2`` and ``vqav2:val`` with the folder as ``data``."""
    from evals.tasks.vqa_load import load_vqa

    known = _known_options(load_vqa, options, kind, hidden=("kind",))
    if data is None:
        return load_vqa(kind, place, **known)
    if place and (kind == "jsonl" or Path(place).exists()):
        raise UsageError(f"{kind}:{place} says itself where the data are", hint="leave --data away")
    if place and known.setdefault("split", place) != place:
        raise UsageError(f"{kind}:{place} names the split {place!r}, and the option split={known['split']} another one")
    return load_vqa(kind, data, **known)


def _bazaar_vqa(name: str, data: str | Path | None, options: Mapping[str, Any]) -> VqaTask:
    """``bazaar/vqa`` or ``bazaar/vqa:train``."""
    from evals.tasks.bazaar_vqa import load_bazaar_vqa

    if data is not None:
        raise UsageError(f"{name} is made on the fly and takes no data", hint="leave --data away")
    known, place = _known_options(load_bazaar_vqa, options, name), name.partition(":")[2]
    if place and known.setdefault("split", place) != place:
        raise UsageError(f"{name} names the split {place!r}, and the option split={known['split']} another one")
    return load_bazaar_vqa(**known)


def _folder(name: str, place: str, classnames: Names | None, templates: Sequence[str] | None) -> ClassifyTask:
    from evals.tasks.folder import load_folder

    names, samples, content = load_folder(Path(place), classnames)

    def train(split: str | None) -> Sequence[Sample]:
        root = Path(place).resolve()
        if split is None and root.name not in (*SPLITS, "test", "val", "validation"):
            raise no_support(name)
        return first_split(lambda word: load_folder(root.parent / word, classnames)[1], SPLITS if split is None else (split,), name)

    learn = _with_places(name, names, train)
    return ClassifyTask(name, names, samples, place, content, tuple(templates or DEFAULT_TEMPLATES), train=learn)


def _parquet(
    name: str,
    place: str,
    classnames: Names | None,
    templates: Sequence[str] | None,
    *,
    split: str | None = None,
    image: str | None = None,
    label: str | None = None,
) -> ClassifyTask:
    from evals.tasks.parquet import load_parquet

    names, table = load_parquet(Path(place), classnames, split=split, image=image, label=label)
    where = ", ".join(path.name for path in table.files[:3]) + (" ..." if len(table.files) > 3 else "")

    def train(wanted: str | None) -> Sequence[Sample]:
        folder = Path(place).parent if Path(place).is_file() else Path(place)

        def read(word: str) -> Sequence[Sample]:
            found, other = load_parquet(folder, classnames, split=word, image=image, label=label)
            return relabelled(other.samples, found, names, (), str(folder))

        return first_split(read, SPLITS if wanted is None else (wanted,), name)

    own, learn = tuple(templates or DEFAULT_TEMPLATES), _with_places(name, names, train)
    return ClassifyTask(name, names, table.samples, f"{place} ({where})", table.content, own, train=learn)


def _hub(
    name: str,
    place: str,
    classnames: Names | None,
    templates: Sequence[str] | None,
    *,
    split: str | None = None,
    config: str | None = None,
    image: str | None = None,
    label: str | None = None,
) -> ClassifyTask:
    from evals.tasks.hub import PLACE as HUB_PLACE
    from evals.tasks.hub import load_hub

    names, samples, content = load_hub(place, classnames, split=split, config=config, image=image, label=label)

    def train(wanted: str | None) -> Sequence[Sample]:
        bare = HUB_PLACE.fullmatch(place)
        root = place if bare is None or bare["split"] is None else place.rsplit(":", 1)[0]

        def read(word: str) -> Sequence[Sample]:
            return load_hub(root, classnames, split=word, config=config, image=image, label=label)[1]

        return first_split(read, SPLITS if wanted is None else (wanted,), name)

    learn = _with_places(name, names, train)
    return ClassifyTask(name, names, samples, f"hf:{place}", content, tuple(templates or DEFAULT_TEMPLATES), train=learn)


def _with_places(name: str, names: Sequence[str], train: Train, spellings: Spellings = ()) -> Train:
    """``train``, and also images from elsewhere: ``folder:DIR``, ``parquet:FILE``, ``hf:NAME``, matched by class name."""

    def read(split: str | None) -> Sequence[Sample]:
        if split is None or not split.startswith(PLACES):
            return train(split)
        other = get_task(split)
        return relabelled(other.items, other.classnames, names, spellings, split)

    return read


def _names(classnames: Names | str | None) -> Names | None:
    if isinstance(classnames, str):
        return Path(classnames)
    if isinstance(classnames, Sequence) and len(classnames) == 1 and Path(classnames[0]).suffix in (".json", ".yaml", ".yml", ".txt"):
        return Path(classnames[0])
    return classnames or None


def _known_options(maker: Callable[..., Any], options: Mapping[str, Any], task: str, hidden: Sequence[str] = ()) -> dict[str, Any]:
    """The options, if the maker takes them all."""
    fixed = {"name", "place", "data", "classnames", "templates", *hidden}
    known = [name for name in inspect.signature(maker).parameters if name not in fixed]
    for option in options:
        if option not in known:
            if not known:
                raise UsageError(f"{task} takes no options, and {option!r} was given")
            raise unknown_name(f"option of {task}", option, known)
    return dict(options)
