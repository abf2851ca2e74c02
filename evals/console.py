"""What a person sees on the terminal: progress on stderr, tables with intervals on stdout. Plain text where there is no terminal."""

from __future__ import annotations

import errno
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import EXIT_BUG, EXIT_MISSING, EXIT_USAGE, PermafrostError
from toolkit.types import JSON

if TYPE_CHECKING:
    from rich.console import Console

    from evals.auditing import Audited
    from evals.demo import Demo

MOST_TYPES = 16  # types of questions on one line; the report and results.json have all
Progress = Callable[..., None]  # (done, total) or (done, total, failed)
OURS = {"toolkit", "evals", "prompts", "cli"}
CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def console() -> Console:
    """stdout; a pipe or a file gets 120 columns, so that tables do not depend on who reads them."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, soft_wrap=False)


@contextmanager
def progress_bar(title: str, *, shown: bool = True) -> Iterator[Progress | None]:
    """A bar on stderr if that is a terminal, else None (and then nothing is printed)."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        job = bar.add_task(title, total=None)

        def update(done: int, total: int, failed: int = 0) -> None:
            bar.update(job, completed=done, total=total, description=f"{title}, {failed} failed" if failed else title)

        yield update


def print_results(results: Mapping[str, JSON], run: Path, report: Path | None) -> None:
    """The table of one run: each metric with its 95 % interval."""
    from rich.table import Table

    out = console()
    method = results["method"]
    out.print(f"{results['task']} · {results['model']} · {method['name']}", markup=False, style="bold")
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("n", justify="right")
    versions = results.get("scorers") or {}
    for name, metric in results["metrics"].items():
        shown = f"{name}@{versions[name]}" if name in versions else name
        table.add_row(shown, number(metric["value"]), interval(metric["ci95"]), str(metric["n"]))
    out.print(table)
    for kind, groups in list((results.get("breakdown") or {}).items())[:1]:
        cells = [f"{value} {number(metrics[results['primary']]['value'])}" for value, metrics in list(groups.items())[:MOST_TYPES]]
        out.print(f"{kind.replace('_', ' ')}: {', '.join(cells)}", markup=False)
    failed = f", {results['n_failed']} failed (see samples.jsonl)" if results["n_failed"] else ""
    out.print(f"{results['n']} samples{failed}, {results['seconds']:.1f} s", markup=False)
    out.print(f"run: {run}", markup=False)
    if report is not None:
        out.print(f"report: {report}", markup=False)


def number(value: float | None) -> str:
    """Four decimals, or a dash where a metric is not defined.

    >>> number(0.8123456), number(None)
    ('0.8123', '-')
    """
    return "-" if value is None else f"{value:.4f}"


def interval(ci95: Sequence[float] | None) -> str:
    """
    >>> interval([0.1, 0.25]), interval(None)
    ('0.1000 to 0.2500', '-')
    """
    return "-" if ci95 is None else f"{ci95[0]:.4f} to {ci95[1]:.4f}"


def print_rows(rows: Sequence[Mapping[str, JSON]]) -> None:
    """A plain table: one line a row, one column a key; missing values are dashes. One column alone is printed bare."""
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(key for row in rows for key in row))
    if len(columns) < 2:
        for row in rows:
            print(row[columns[0]])  # noqa: T201  # this file is where the harness prints
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("-" if row.get(column) is None else Text(str(row[column])) for column in columns))
    console().print(table)


def print_comparison(comparison: Mapping[str, JSON]) -> None:
    """Both runs, their difference with its interval, and how sure it is."""
    from rich.table import Table

    if comparison.get("family") == "vqa":
        _print_answer_comparison(comparison)
        return
    out = console()
    out.print(f"{comparison['task']}: paired comparison of {comparison['n']} samples", markup=False, style="bold")
    table = Table()
    for column in ("", "run", "model", "method"):
        table.add_column(column, overflow="fold")
    table.add_column("top1", justify="right")
    table.add_column("95 % interval", justify="right")
    for letter in ("a", "b"):
        who, top1 = comparison[letter], comparison["top1"][letter]
        method = (who["method"] or {}).get("name", "-")
        table.add_row(letter.upper(), who["path"], who["model"], method, number(top1["value"]), interval(top1["ci95"]))
    out.print(table)
    difference = comparison["difference"]
    low, high = difference["ci95"]
    out.print(f"B - A: {difference['value']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}", markup=False)
    alone = f"only A right {comparison['only_a']}, only B right {comparison['only_b']}"
    out.print(f"exact McNemar p = {comparison['mcnemar_p']:.4g} ({alone})", markup=False)
    for note in comparison["notes"]:
        out.print(f"note: {note}", markup=False)


def _print_answer_comparison(comparison: Mapping[str, JSON]) -> None:
    """Every scorer, then every type of question by the scorer that counts."""
    from rich.table import Table

    out = console()
    what = f"{comparison['n']} questions about {comparison['images']} images"
    out.print(f"{comparison['task']}: paired comparison of {what}", markup=False, style="bold")
    for letter in ("a", "b"):
        who = comparison[letter]
        out.print(f"{letter.upper()}: {who['path']} ({who['model']}, {(who['method'] or {}).get('name', '-')})", markup=False)
    rows = [(f"{name}@{found['version']}", found) for name, found in comparison["scorers"].items()]
    for kind, groups in comparison["breakdown"].items():
        rows += [(f"{kind.replace('_', ' ')}: {value}", found) for value, found in list(groups.items())[:MOST_TYPES] if len(groups) > 1]
    table = Table(box=None, pad_edge=False)
    for column in ("", "n", "A", "B", "B - A", "95 % interval", "repaired", "broken", "p (Holm)"):
        table.add_column(column, justify="right" if column else "left", overflow="fold")
    for name, found in rows:
        difference = found["difference"]
        numbers = (number(found["a"]["value"]), number(found["b"]["value"]), f"{difference['value']:+.4f}", signed(difference["ci95"]))
        p = f"{found['mcnemar_p_holm']:.2g}" if "mcnemar_p_holm" in found else ""
        table.add_row(name, str(found["n"]), *numbers, str(found["repaired"]), str(found["broken"]), p)
    out.print(table)
    alone = f"{comparison['repaired']} repaired, {comparison['broken']} broken by {comparison['primary']}"
    out.print(f"exact McNemar p = {comparison['mcnemar_p']:.4g} ({alone}; {comparison['changed']} answers read differently)", markup=False)
    for note in comparison["notes"]:
        out.print(f"note: {note}", markup=False)


def signed(ci95: Sequence[float] | None) -> str:
    """
    >>> signed([-0.1, 0.25]), signed(None)
    ('-0.1000 to +0.2500', '-')
    """
    return "-" if ci95 is None else f"{ci95[0]:+.4f} to {ci95[1]:+.4f}"


def print_audit(done: Audited) -> None:
    """The verdict, the effects behind it, and every arm."""
    from rich.table import Table

    out, result = console(), done.result
    out.print(f"{result['run']['task']} · {result['run']['model']} · verdict: {result['verdict']['name']}", markup=False, style="bold")
    out.print(f"{result['verdict']['reason']}.", markup=False)
    for name, title in (("gain", "gain over the class name"), ("meaning", "  of it meaning"), ("fewshot", "  of it random letters")):
        low, high = result[name]["ci"]
        p = result[name]["p"] if result[name]["p_holm"] is None else result[name]["p_holm"]
        points = f"{100 * result[name]['value']:+.2f} points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f}"
        out.print(f"{title:26} {points}, p = {p:.2g}", markup=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("arm")
    for column in ("accuracy", "gain", "repaired", "broken", "w", "seeds"):
        table.add_column(column, justify="right")
    for row in result["arms"]:
        w = f"{sum(row['w']) / len(row['w']):.2f}" if row["w"] else "-"
        counts = (f"{row['repaired']:.0f}", f"{row['broken']:.0f}", w, str(row["seeds"]))
        table.add_row(row["title"], number(row["accuracy"]), f"{100 * row['gain']['value']:+.2f}", *counts)
    out.print(table)
    if true := result.get("true_texts"):
        shares = f"{100 * true['share']:.1f} % of the selected texts are true of their class"
        out.print(f"known truth: {shares}, {100 * true['expected']:.1f} % of blindly picked ones", markup=False)
    for flag in result["flags"]:
        out.print(f"note: {flag}", markup=False)
    out.print(f"report: {done.report}", markup=False)


def print_lint(found: Mapping[str, JSON], file: Path, most: int = 3) -> None:
    """One line a rule with its count and the first findings."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    sizes = f"{found['classes']} classes, {found['slots']} texts, {found['unique']} different, {found['empty']} classes without texts"
    out.print(f"{file}: {sizes}", markup=False, style="bold")
    table = Table()
    for column in ("rule", "level", "hits", "for example"):
        table.add_column(column, justify="right" if column == "hits" else "left", overflow="fold")
    for rule, title in found["rules"].items():
        hits = [hit for hit in found["hits"] if hit["rule"] == rule]
        if hits:
            shown = ["; ".join(filter(None, (hit["cls"], hit["text"] and repr(hit["text"]), hit["detail"]))) for hit in hits[:most]]
            levels = "/".join(sorted({hit["level"] for hit in hits}))
            table.add_row(f"{rule} {title}", levels, str(found["counts"][rule]), Text("\n".join(shown)))
    if table.row_count:
        out.print(table)
    leaks = f"{found['leaks']} texts name a class" if found["leaks"] else "no text names a class"
    out.print(f"{leaks}; {'clean' if found['clean'] else 'not clean'}", markup=False)


def print_answers(told: Iterable[Mapping[str, JSON]], *, as_json: bool, several: bool) -> int:
    """Print each answer when it is there; the number of those that failed. JSON is one object, or a list for several."""
    from evals.asking import lines

    found, failed = [], 0
    for each in told:
        failed += each["error"] is not None
        found.append(each)
        if as_json:
            continue
        if each["error"] is not None:
            say(f"error: {each['error']}")
        else:
            print("\n".join(lines(each, several)))  # noqa: T201
    if as_json:
        print(json.dumps(found if several else found[0], indent=2, ensure_ascii=False))  # noqa: T201
    return failed


def print_demo(demo: Demo) -> None:
    """One line a comparison: both settings, and whether their difference is more than chance; then where attention looks."""
    from rich.table import Table

    from evals.attention_scores import attention_lines

    table = Table(title="one frozen model, answered in two ways", title_justify="left", title_style="bold")
    for column in ("task", "n", "A", "B", "B - A", "95 % interval", "p (McNemar)"):
        table.add_column(column, justify="left" if column in ("task", "A", "B") else "right", overflow="fold")
    for row in demo.comparisons:
        metric = row.get("primary", "top1")
        scores, difference = row["scorers"][metric] if "scorers" in row else row["top1"], row["difference"]
        change = (f"{difference['value']:+.4f}", signed(difference["ci95"]), f"{row['mcnemar_p']:.3g}")
        first, second = row["settings"]
        values = (f"{first} {number(scores['a']['value'])}", f"{second} {number(scores['b']['value'])}")
        table.add_row(f"{row['task']}, {metric}", str(row["n"]), *values, *change)
    out = console()
    out.print(table)
    for run in demo.runs:
        for line in attention_lines(run.folder):
            out.print(line, markup=False)
    for sentence in (*demo.missing, *demo.refused):
        out.print(f"note: {sentence}", markup=False)
    print(f"report: {demo.page}")  # noqa: T201


def print_facts(facts: Mapping[str, JSON]) -> None:
    """One ``name: value`` line each; nested mappings are indented."""
    for line in _fact_lines(facts):
        print(line)  # noqa: T201


def _fact_lines(facts: Mapping[str, JSON], indent: str = "") -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _fact_lines(value, indent + "  ")
        elif isinstance(value, list) and value:
            yield f"{indent}{name}:"
            for item in value:
                text = ", ".join(f"{key} {part}" for key, part in item.items()) if isinstance(item, Mapping) else str(item)
                yield f"{indent}  - {text}"
        else:
            yield f"{indent}{name}: {'none' if value in (None, [], {}) else value}"


def explain(error: Exception) -> int:
    """Print on stderr what went wrong, as a sentence if the world is at fault and with a traceback if we are; the exit code."""
    if isinstance(error, PermafrostError):
        say(f"error: {error}", error.hint)
        return error.exit_code
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package and package not in OURS:
        say(f"error: the package {package!r} is not installed", f"pip install {package}")
        return EXIT_MISSING
    if type(error).__name__ == "OutOfMemoryError":  # torch's, recognised without importing torch
        say("error: the device ran out of memory", "try a smaller --batch-size, --dtype bfloat16, or --device cpu")
        return EXIT_MISSING
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        say(f"error: cannot use {error.filename or 'a file'}: {error.strerror}", "choose another place with --output")
        return EXIT_USAGE
    traceback.print_exception(error)
    say("error: this is a bug in permafrost, not your mistake", "report the lines above with the output of `permafrost doctor --json`")
    return EXIT_BUG


def say(sentence: str, hint: str | None = None) -> None:
    """A sentence on stderr, and what to do about it."""
    print(sentence, file=sys.stderr)  # noqa: T201
    if hint:
        print(f"hint: {hint}", file=sys.stderr)  # noqa: T201
