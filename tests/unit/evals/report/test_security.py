"""What a data set or a model may write into a run must never act in the page, and the page must never ask the network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from evals.report import write_overview, write_report

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></script><svg onload=alert(1)>",
    "{{ 7 * 7 }} {% include 'base.html.j2' %}",
    "javascript:alert(1)",
    "\u202eright to left\u202c and \x00\x07 control",
    "a" * 5000,
    "漢字 ひらがな 🙂 é zażółć",
    "https://example.invalid/x.png",
    "",
]


def evil_run(make_run: Callable[..., Path], record: Any, answered: Any, name: str = "run") -> Path:
    k = len(EVIL)
    lines = [record(f"{EVIL[i % k]}#{i}", i % k, answered((i + i // k) % k, 0.5 + i / 100, k)) for i in range(3 * k)]
    lines += [record(f"bad {i} {text}", 0, None, f"cannot read {text}: {text}") for i, text in enumerate(EVIL)]
    return make_run(
        name,
        names=EVIL,
        lines=lines,
        task=EVIL[0],
        model=EVIL[3],
        method={"name": EVIL[1], "config": {EVIL[2]: EVIL[0]}},
        data=EVIL[4],
        note=EVIL[3],
    )


def check(page: Any) -> None:
    allowed = {
        "a",
        "article",
        "body",
        "caption",
        "circle",
        "data",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "footer",
        "h1",
    }
    allowed |= {
        "h2",
        "h3",
        "head",
        "header",
        "html",
        "img",
        "line",
        "main",
        "meta",
        "nav",
        "p",
        "path",
        "polyline",
        "pre",
        "rect",
        "script",
    }
    allowed |= {"section", "small", "span", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "title", "tr"}
    assert {tag for tag, _ in page.tags} <= allowed
    assert len(page.all("script")) == 1
    assert len(page.all("style")) == 1
    for tag, attrs in page.tags:
        for name, value in attrs.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "srcdoc", "action", "xlink:href", "background"), (tag, name)
            if name == "src":
                assert value is not None
                assert re.fullmatch(r"data:image/webp;base64,[A-Za-z0-9+/=]+", value)
            if name == "href":
                assert value is not None
                assert re.fullmatch(r"#[a-z0-9-]+|(\.\./)*[A-Za-z0-9._/-]+\.html", value), value
    assert "\u202e" not in page.text
    assert "\x00" not in page.text


def test_hostile_text_is_only_text(make_run: Callable[..., Path], record: Any, answered: Any, parse: Any) -> None:
    run = evil_run(make_run, record, answered)
    page = parse(write_report(run, images=lambda _: Image.new("RGB", (30, 30))))
    check(page)
    assert "<script>alert(1)</script>" in page.said  # shown, not run
    assert "{{ 7 * 7 }}" in page.said


def test_hostile_text_in_an_overview_is_only_text(
    make_run: Callable[..., Path], record: Any, answered: Any, parse: Any, tmp_path: Path
) -> None:
    runs = [evil_run(make_run, record, answered, name) for name in ("one", "two")]
    out = write_overview(runs, tmp_path / "all.html", title=EVIL[3], lede=EVIL[0], comparisons=[(runs[0], runs[1])])
    check(parse(out))


def test_the_policy_allows_this_page_and_nothing_else(make_run: Callable[..., Path], parse: Any) -> None:
    page = parse(write_report(make_run()))
    (policy,) = [attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.search(r"url\(|@import|https?://", page.text)


def test_thumbnails_carry_nothing_but_pixels(make_run: Callable[..., Path], parse: Any) -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"

    def tagged(_: str) -> Image.Image:
        image = Image.new("RGB", (50, 50), "teal")
        image.info.update(exif=exif.tobytes(), comment=b"taken at home", icc_profile=b"x" * 128)
        return image

    page = parse(write_report(make_run(), images=tagged))
    raw = [base64.b64decode(str(attrs["src"]).partition(",")[2]) for attrs in page.all("img")]
    assert raw
    assert all(b"EXIF" not in one and b"ICCP" not in one and b"home" not in one for one in raw)
