"""Tasks by name: ``folder:DIR``, ``parquet:FILE``, ``hf:NAME@REVISION``, ``bazaar/...`` and the named public sets.

Tasks with a name of their own take a split behind a colon: ``eurosat:train``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.records import SampleRecord
from evals.tasks.classify import DEFAULT_TEMPLATES, ClassifyTask, summarise
from evals.tasks.labels import Names
from evals.tasks.support import SPLITS, Spellings, Train, first_split, no_support, relabelled
from toolkit.errors import DataError, UsageError, unknown_name
from toolkit.types import Metric, Sample

BAZAAR = ("bazaar/category", "bazaar/lines", "bazaar/lines-heldout", "bazaar/lines-described", "bazaar/lines-heldout-described")
NAMED = ("imagenet", "imagenetv2", "cub200", "eurosat", "places365", "dtd", "flowers102", "fashion_mnist", "sign_digits")
PLACES = ("folder:", "parquet:", "hf:")


def list_tasks() -> list[str]:
    """All task names; those that end in ``:`` take a place."""
    return [*BAZAAR, *NAMED, *PLACES]


def get_task(
    name: str,
    *,
    data: str | Path | None = None,
    classnames: Names | str | None = None,
    templates: Sequence[str] | None = None,
    **options: Any,
) -> ClassifyTask:
    """The task of that name.

    Args:
        data: local copy of a named set.
        classnames: list (label order), mapping from the data's name to ours, or a file of either. A one-element list that names an
            existing file is read as that file.
        templates: prompts with one ``{}`` instead of the task's own.
        options: of the task, such as ``split``.
    Raises: UsageError: for an unknown name or option. DataNotFound: if the data are not there. DataError: if they do not fit.
    """
    kind, _, place = name.partition(":")
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
    raise unknown_name("task", name, list_tasks())


def summarise_family(family: str, records: Sequence[SampleRecord], manifest: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of a run from its records and manifest alone."""
    if family != "classify" or not manifest.get("classnames"):
        raise DataError(f"this version does not know how to score a run of the kind {family!r}")
    return summarise(records, len(manifest["classnames"]))


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


def _known_options(maker: Callable[..., Any], options: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The options, if the maker takes them all."""
    fixed = {"name", "place", "data", "classnames", "templates"}
    known = [name for name in inspect.signature(maker).parameters if name not in fixed]
    for option in options:
        if option not in known:
            if not known:
                raise UsageError(f"{task} takes no options, and {option!r} was given")
            raise unknown_name(f"option of {task}", option, known)
    return dict(options)
