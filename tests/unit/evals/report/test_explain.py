"""The picture of an explanation and the section of a page: sizes, words, escaping, and files that are damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.explaining import draw, picture_path
from evals.report import write_report
from evals.report.drawing import PALETTE, Box, Stroke, Words, estimated, fit, measured, pixels, svg, wrap
from evals.report.explain_figure import explain_png, explain_svg, spoken, w_end
from evals.report.told import MOST_SAMPLES, Told, read_explanations
from toolkit.errors import UsageError

EVIL = '<script>alert("1")</script>&$x_1$\x1b\u202e'


def text(words: str, *, excess: float | None = 0.02, to: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "text": words,
        "cosine": 0.25,
        "margin": 0.01,
        "excess": excess,
        "hits": [],
        "without": {"drop_to": to, "reselect_to": to},
    } | more


def told(
    *, names: tuple[str, ...] = ("river", "highway", "forest"), texts: int = 5, excess: float | None = 0.02, **more: Any
) -> dict[str, Any]:
    rows = [
        {
            "label": c,
            "name": name,
            "name_part": -0.01 * c,
            "description_part": 0.03 * c,
            "lead": 0.02 * c,
            "flip": None if c == 0 else 2.0 / c,
            "fallback": False,
            "texts": [text(f"{name} text {t}", excess=None if excess is None else excess * (1 - t), to=c * (t == 1)) for t in range(texts)],
        }
        for c, name in enumerate(names)
    ]
    segments = [{"low": 0.0, "high": 2.0, "label": 0, "name": names[0]}]
    segments.append({"low": 2.0, "high": None, "label": len(names) - 1, "name": names[-1]})
    value = {"label": 0, "name": names[0], "w": 0.7, "w_origin": "loo", "m": 5, "candidates": rows, "segments": segments, "notes": []}
    return value | {"sample": "s00003", "truth": names[-1]} | more


def file_of(*, samples: int = 3, **more: Any) -> dict[str, Any]:
    rate = {"flips": 20, "n": 100, "share": 0.2, "ci95": [0.13, 0.29]}
    delete = {"strongest": rate, "random": rate | {"flips": 8, "share": 0.08, "ci95": [0.04, 0.15]}, "mcnemar_p": 0.004}
    replaced = {"flips": rate, "repaired": 3, "broken": 11, "mcnemar_p": 0.06}
    shown = [
        {"id": f"s{n:05d}", "kind": "repaired", "kind_title": "Repaired by descriptions", "sentence": "river: because.", "told": told()}
        for n in range(samples)
    ]
    rates = {"n": 100, "seed": 0, "delete": delete, "swap": None, "replace_all": replaced}
    return {"schema": 1, "n": 200, "w": 0.7, "w_origin": "loo", "from_photos": True, "rates": rates, "samples": shown} | more


def photo(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("k", [1, 2, 3, 12])
@pytest.mark.parametrize("texts", [0, 1, 25])
def test_a_picture_is_1200_px_wide_and_as_high_as_it_needs(k: int, texts: int) -> None:
    image = explain_png(
        told(names=tuple(f"class {c}" for c in range(k)), texts=texts), photo(), sentence="A sentence. " * 30, footer="small"
    )
    assert image.mode == "RGB"
    assert image.width == 1200
    assert 400 < image.height < 1500
    pixels_ = np.asarray(image)
    assert (pixels_[:, :30] == 255).all()  # nothing runs out at the left, the right or the bottom
    assert (pixels_[:, -30:] == 255).all()
    assert (pixels_[-14:] == 255).all()


def test_the_photo_keeps_its_shape_and_its_place() -> None:
    black = Image.new("RGB", (40, 20), "black")
    image = np.asarray(explain_png(told(), black))
    rows, columns = np.nonzero((image[40:340, 40:340] < 8).all(axis=2))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (300, 150)
    assert abs(int(rows.min() + rows.max()) - 299) <= 2
    none = explain_png(told(), None)
    assert none.getpixel((190, 60)) == tuple(int(PALETTE["panel"][i : i + 2], 16) for i in (1, 3, 5))


def test_names_and_texts_are_escaped_in_svg_and_drawn_plainly_in_pixels() -> None:
    evil = told(names=(EVIL, EVIL + "2", EVIL + "3"), notes=[EVIL], sample=EVIL)
    drawn = str(explain_svg(evil))
    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "\x1b" not in drawn
    assert "\u202e" not in drawn
    assert explain_png(evil, photo(), sentence=EVIL * 40, footer=EVIL).width == 1200


def test_the_figure_shows_every_class_text_and_flip() -> None:
    drawn = str(explain_svg(told()))
    for expected in ("river", "highway", "forest", "river text 4", "flips at w", "2.00", "1.00", "used: 0.70", "+0.0200", "without it"):
        assert expected in drawn
    assert drawn.count(">same<") == 13
    assert "found" not in drawn
    assert spoken(told()) == "river leads highway by +0.0200, forest by +0.0400"
    assert "was the only candidate" in spoken(told(names=("river",)))


def test_bars_lie_on_their_side_of_zero_and_are_in_proportion() -> None:
    drawn = str(explain_svg(told(names=("river", "highway"), texts=0)))
    import re

    boxes = [(float(x), float(w)) for x, w in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="11"', drawn)]
    zero = float(re.findall(r'<line x1="([\d.]+)"[^>]*class="line"', drawn)[0])
    (name_x, name_w), (rest_x, rest_w) = boxes
    assert name_x + name_w == pytest.approx(zero, abs=0.02)
    assert rest_x == pytest.approx(zero, abs=0.02)
    assert rest_w == pytest.approx(3 * name_w, rel=0.01)


def test_without_photos_behind_the_selection_texts_are_compared_with_each_other() -> None:
    assert "the mean of these texts" in str(explain_svg(told(excess=None)))
    assert "usual photos" in str(explain_svg(told()))


def test_far_flips_do_not_stretch_the_line_of_weights() -> None:
    far = told()
    far["segments"][0]["high"] = far["segments"][1]["low"] = 1e6
    assert w_end(far) == pytest.approx(1.4 * 0.7)
    assert w_end(told(w=0.0, segments=[{"low": 0.0, "high": None, "label": 0, "name": "river"}])) == 1.0
    assert "river" in str(explain_svg(far))


@pytest.mark.parametrize("measure", [estimated, measured])
def test_words_fit_their_room(measure: Callable[..., float]) -> None:
    long = "a long winding band of dark water between pale fields"
    for room in (30.0, 120.0, 800.0):
        assert measure(fit(long, room, 14, measure), 14, False) <= max(room, measure("a…", 14, False))
    assert fit(long, 8000, 14, measure) == long
    lines = wrap(long, 150, 14, measure, most=2)
    assert len(lines) == 2
    assert lines[1].endswith("…")
    assert all(measure(line, 14, False) <= 150 for line in lines)
    assert " ".join(wrap(long, 150, 14, measure, most=9)) == long


def test_both_outputs_draw_the_same_items() -> None:
    items = [Box(10, 10, 30, 20, "accent"), Stroke(5, 50, 95, 50, "ink", 2), Words(50, 80, "a<b", 12, anchor="middle", tip="a<b and more")]
    drawn = str(svg(items, 100, 90, class_="x", label="l"))
    assert 'viewBox="0 0 100 90"' in drawn
    assert "a&lt;b<title>a&lt;b and more</title>" in drawn
    image = pixels(items, 100, 90)
    assert image.getpixel((25, 20)) == (10, 110, 189)
    assert image.getpixel((50, 50)) == (23, 27, 33)
    assert np.asarray(image)[70:82, 35:65].min() < 120


def test_pictures_are_written_as_png_and_numbered(tmp_path: Path) -> None:
    path = draw(tmp_path / "why.png", told() | {"sentence": "river: because."}, photo(), footer="f")
    with Image.open(path) as image:
        assert (image.format, image.width) == ("PNG", 1200)
    assert path.stat().st_size < 400_000
    assert picture_path(None, 0, 1) is None
    assert picture_path(Path("a/b.png"), 0, 1) == Path("a/b.png")
    assert picture_path(Path("a/b.PNG"), 2, 3) == Path("a/b-3.PNG")
    with pytest.raises(UsageError, match=r"not a \.png"):
        picture_path(Path("b.jpg"), 0, 1)


def test_a_page_explains_the_samples_that_the_run_explains(
    make_run: Callable[..., Path], parse: Callable[..., Any], picture: Callable[[str], Image.Image]
) -> None:
    folder = make_run(method={"name": "classname-free", "config": {}})
    (folder / "explain.json").write_text(json.dumps(file_of()))
    page = parse(write_report(folder, images=picture))
    assert "Why these answers" in page.said
    assert "more often than a random one (20.0\xa0% against 8.0\xa0%)".replace("\xa0", " ") in page.said.replace("\xa0", " ")
    assert "11 of 100 answers turn wrong and 3 right" in page.said
    assert page.said.count("but it is forest") == 3
    assert "Because." in page.said
    assert len([one for one in page.all("svg") if "explain" in (one.get("class") or "")]) == 3
    assert len(page.all("details", open="")) == 0
    assert len([one for one in page.all("details") if one.get("class") == "why" and "open" in one]) == 1
    assert any((one.get("src") or "").startswith("data:image/webp") for one in page.all("img"))


def test_a_run_without_explanations_has_no_such_section(make_run: Callable[..., Path], parse: Callable[..., Any]) -> None:
    assert "Why these answers" not in parse(write_report(make_run())).said


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        json.dumps(file_of(samples=MOST_SAMPLES + 1)),
        json.dumps(file_of(w=float("nan"))),
        json.dumps(file_of(rates={"n": "many"})),
        json.dumps(file_of()).replace('"cosine": 0.25', '"cosine": "0.25<b>"'),
    ],
    ids=["torn", "list", "too many", "nan", "words", "text for a number"],
)
def test_a_damaged_file_costs_its_section_and_not_the_page(damaged: str, make_run: Callable[..., Path], parse: Callable[..., Any]) -> None:
    folder = make_run()
    (folder / "explain.json").write_text(damaged)
    page = parse(write_report(folder))
    assert "explain.json" in page.said
    assert "<b>" not in page.text
    assert "Top-1 accuracy" in page.said


def test_hostile_words_in_the_file_stay_words(make_run: Callable[..., Path], parse: Callable[..., Any]) -> None:
    folder = make_run()
    value = file_of(samples=1)
    value["samples"][0] |= {"kind_title": EVIL, "sentence": EVIL, "id": EVIL, "told": told(names=(EVIL, "b"), notes=[EVIL], truth=EVIL)}
    (folder / "explain.json").write_text(json.dumps(value))
    page = parse(write_report(folder))
    assert "<script>alert" not in page.text
    assert '<script>alert("1")</script>' in page.said


def test_no_explanations_are_read_from_a_folder_without(tmp_path: Path) -> None:
    assert read_explanations(tmp_path) is None
    assert Told.model_validate(told()).candidates[1].name == "highway"
