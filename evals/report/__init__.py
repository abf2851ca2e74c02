"""The HTML report of one run and the overview of several: one self-contained file each, readable without a network or scripts.

No model is loaded; everything comes from the files of the run folders, and thumbnails from a function that the caller passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.report.answer_pairs import read_pair
from evals.report.answer_view import read_view
from evals.report.render import overview_html, report_html
from evals.report.thumbnails import Thumbnails
from toolkit.files import atomic_write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageOf = Callable[[str], Image]

__all__ = ["write_overview", "write_report"]


def write_report(run_dir: str | Path, *, images: ImageOf | None = None, compare: Sequence[str | Path] = ()) -> Path:
    """Write ``report.html`` into a run folder.

    Args:
        run_dir: a run folder; an unfinished one gives a report of what there is.
        images: gives the PIL image of a sample id. Without it mistakes are listed by name; an id for which it raises gets an empty frame.
        compare: other run folders of the same task and data; the page says what this run changes against each of them.
    Returns: the path of the page, at most 3 MB.
    Raises: DataNotFound, DataError: if a folder is no run or damaged. UsageError: if a run cannot be compared with this one,
        or the page cannot be written.
    """
    view = read_view(run_dir)
    pairs = [read_pair(other, run_dir) for other in compare]
    return atomic_write_text(Path(run_dir) / "report.html", report_html(view, pairs, Thumbnails(images)))


def write_overview(
    run_dirs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str,
    lede: str = "",
    images: ImageOf | Mapping[str | Path, ImageOf] | None = None,
    comparisons: Sequence[tuple[str | Path, str | Path]] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write one page about several runs: a table with intervals, paired comparisons, and a section for each run.

    Args:
        run_dirs: run folders, in the order in which they are shown; those of one task are put together.
        out: the HTML file to write.
        title: the page's heading. ``lede`` is one paragraph under it, plain text.
        images: id -> PIL image for all runs, or a mapping from run folder to such a function.
        comparisons: pairs of run folders (before, after) of the same task and data; of several pairs of one task the first shows examples.
        notes: sentences on what is not shown and why.
    Returns: ``out``.
    Raises: as ``write_report``.
    """
    views = [read_view(folder) for folder in run_dirs]
    pairs = [read_pair(a, b) for a, b in comparisons]
    by_folder = {Path(folder): function for folder, function in images.items()} if isinstance(images, Mapping) else {}
    everyone = None if isinstance(images, Mapping) else images
    out = Path(out)
    find = lambda view: by_folder.get(view.folder, everyone)  # noqa: E731  # a name keeps the next line short
    html = overview_html(views, pairs, title=title, lede=lede, notes=notes, images=find, out=out)
    return atomic_write_text(out, html)
