"""Whether the class names of the prompts are the labels of the data, in the same order.

A prompt file and a data set that disagree on the order give a number that looks like a bad model. So names are compared, always,
and a mismatch is refused with both lists side by side.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from toolkit.errors import DataError, DataNotFound

Names = Sequence[str] | Mapping[str, str] | Path
SHOWN = 20


def normalise(name: str) -> str:
    """What two spellings of a class name have in common.

    >>> normalise("AnnualCrop") == normalise("annual_crop") == normalise("001.Annual-Crop")
    True
    """
    name = re.sub(r"^(\d+[.]\s*(?=\D)|/[a-z]/)", "", name)  # CUB's "001." and Places365's "/a/"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or name
    return re.sub(r"[\W_]+", "", plain).casefold() or plain.strip()


def match_in_order(found: Sequence[str], names: Sequence[str], aliases: Sequence[Sequence[str]] = (), *, where: str) -> None:
    """Check that label ``i`` of the data is class ``i`` of the prompts, by name or alias.

    Args:
        found: the names in the data set's label order. names: the class names of the prompts. aliases: per class, other spellings.
    Raises: DataError: with the reason and the first rows that differ, side by side.
    """
    spellings = _spellings(names, aliases)
    shared = min(len(found), len(names))
    wrong = [i for i in range(max(len(found), len(names))) if i >= shared or not _readings(found[i]) & spellings[i]]
    if not wrong:
        return
    everything = set().union(*spellings)
    if len(found) != len(names):
        reason = f"the data have {len(found)} classes and the prompts {len(names)}"
    elif all(_readings(name) & everything for name in found):
        reason = "they are the same classes in another order, and labels would be scored against the wrong names"
    else:
        reason = f"{len(wrong)} of {len(names)} class names differ"
    raise mismatch(reason, found, names, wrong, where)


def match_by_name(found: Sequence[str], names: Sequence[str], aliases: Sequence[Sequence[str]] = (), *, where: str) -> dict[str, int]:
    """The label of each found name (a folder, say), whatever the order. Some classes may be absent from the data.

    Raises: DataError: if a name is of no class, or two names are of the same one.
    """
    labels: dict[str, int] = {}
    for label, spelling in enumerate(_spellings(names, aliases)):
        for text in spelling:
            labels.setdefault(text, label)
    for label, name in enumerate(names):
        labels[normalise(name)] = label  # a class's own name goes before another class's alias
    result = {name: labels.get(normalise(name), -1) for name in found}
    unknown = [i for i, name in enumerate(found) if result[name] < 0]
    if unknown:
        rows = "".join(f"\n  {found[i]}" for i in unknown[:SHOWN])
        raise DataError(
            f"{where}: {len(unknown)} of {len(found)} class folders are of no known class:{rows}",
            hint="the known classes are: " + ", ".join(list(names)[:SHOWN]) + (" ..." if len(names) > SHOWN else ""),
        )
    taken: dict[int, str] = {}
    for name, label in result.items():
        if label in taken:
            raise DataError(f"{where}: {taken[label]!r} and {name!r} are both class {label}, {names[label]!r}")
        taken[label] = name
    return result


def order_folders(folders: Sequence[str], names: Sequence[str] | Mapping[str, str] | None, where: str) -> tuple[list[str], tuple[str, ...]]:
    """(folders in label order, class names in label order) from what the user says about the folders."""
    if names is None:
        return list(folders), tuple(pretty(folder) for folder in folders)
    if isinstance(names, Mapping):
        if set(names) != set(folders):
            odd = sorted(set(names) ^ set(folders))
            raise DataError(
                f"{where}: the mapping must name every folder once; folders or keys without a partner: {', '.join(odd[:SHOWN])}"
            )
        return list(names), tuple(names.values())
    if len(names) == len(folders) and set(folders) == {str(label) for label in range(len(names))}:
        return sorted(folders, key=int), tuple(names)  # folders 0, 1, 2 ... are places in the list
    by_name = {normalise(folder): folder for folder in folders}
    order = [by_name.get(normalise(name)) for name in names]
    if None in order or len(set(order)) != len(folders):
        wrong = [place for place, folder in enumerate(order) if folder is None]
        hint = 'to rename classes give a mapping {"folder": "class name"}'
        raise mismatch("the class names are not those of the folders", folders, names, wrong or list(range(len(folders))), where, hint)
    return [folder for folder in order if folder is not None], tuple(names)


def read_names(names: Names | None) -> Sequence[str] | Mapping[str, str] | None:
    """Class names as a list or mapping; a path is read as JSON, YAML or one name a line.

    Raises: DataNotFound, DataError: if the file is not there, is of another form, or names a class twice.
    """
    where = "the class names"
    if isinstance(names, Path):
        where = str(names)
        names = _read_file(names)
    if names is None:
        return None
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    values = list(names.values()) if isinstance(names, Mapping) else list(names) if listed else []
    if not values or not all(isinstance(value, str) and value.strip() for value in values):
        raise DataError(f"{where} must be a list of names, or a mapping from folder to name", hint='for example ["cat", "dog"]')
    twice = sorted({value for value in values if values.count(value) > 1}) if len(values) < 5000 else []
    if twice:
        raise DataError(f"{where} name a class twice: {', '.join(map(repr, twice[:5]))}")
    return dict(names) if isinstance(names, Mapping) else values


def pretty(folder: str) -> str:
    """A folder's name as words. ``Annual_Crop`` -> ``Annual Crop``; names without word signs stay as they are."""
    return re.sub(r"_+", " ", folder).strip() or folder


def mismatch(
    reason: str, found: Sequence[str], names: Sequence[str], wrong: Sequence[int], where: str, hint: str | None = None
) -> DataError:
    """The error that shows the first differing rows of both lists side by side."""
    rows = [(str(i), found[i] if i < len(found) else "(none)", names[i] if i < len(names) else "(none)") for i in list(wrong)[:SHOWN]]
    widths = [max(len(row[k]) for row in [*rows, ("#", "data", "")]) for k in range(2)]
    table = "".join(f"\n  {i:>{widths[0]}}  {a:<{widths[1]}}  {b}" for i, a, b in [("#", "data", "prompts"), *rows])
    more = f"\n  ... and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return DataError(
        f"{where}: {reason}{table}{more}", hint=hint or "give the class names in the order of the data's labels with --classnames"
    )


def _readings(name: str) -> set[str]:
    """A label may list synonyms: ``tench, Tinca tinca``."""
    return {normalise(part) for part in (name, *name.split(",")) if part.strip()}


def _spellings(names: Sequence[str], aliases: Sequence[Sequence[str]]) -> list[set[str]]:
    extra = list(aliases) + [()] * (len(names) - len(aliases))
    return [{normalise(text) for text in (name, *others)} for name, others in zip(names, extra, strict=True)]


def _read_file(path: Path) -> Sequence[str] | Mapping[str, str]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise DataNotFound(f"there is no file of class names {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read class names from {path}: {error}") from error
    try:
        if path.suffix == ".json":
            return json.loads(text)  # type: ignore[no-any-return]
        if path.suffix in (".yaml", ".yml"):
            return yaml.safe_load(text)  # type: ignore[no-any-return]
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
