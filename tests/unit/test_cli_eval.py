"""`permafrost eval` and `embed` end to end on a tiny model: results, files, and everything that can be wrong with the input."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cli
from tests import tiny


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def evaluate(photos: Path, model: Path, out: Path, *more: str | Path) -> Result:
    return call("eval", "-t", f"folder:{photos}", "-m", f"local:{model}", "--output", out, "--json", *more)


def samples(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]


def test_eval_prints_and_writes_the_same_results(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = evaluate(photos, tiny_model, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert printed == json.loads((tmp_path / "run" / "results.json").read_text())
    assert (printed["n"], printed["n_failed"]) == (12, 0)
    right = [sample["prediction"]["label"] == sample["label"] for sample in samples(tmp_path / "run")]
    assert printed["metrics"]["top1"]["value"] == pytest.approx(np.mean(right))
    assert "<html" in (tmp_path / "run" / "report.html").read_text()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["device"] == "cpu"
    assert manifest["environment"]["packages"]["torch"]


def test_the_table_shows_the_interval(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = call("eval", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--output", tmp_path / "run", "--no-report")
    assert result.exit_code == 0, result.stderr
    low, high = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["top1"]["ci95"]
    assert f"{low:.4f} to {high:.4f}" in result.stdout
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_second_call_answers_nothing_again(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    evaluate(photos, tiny_model, tmp_path / "run")
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    again = evaluate(photos, tiny_model, tmp_path / "run")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "run" / "samples.jsonl").read_bytes() == before


def test_workers_decode_the_same(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    answers = []
    for workers in (0, 1):
        how = ("--workers", str(workers), "--no-cache", "--no-report", "--batch-size", "6")
        done = evaluate(photos, tiny_model, tmp_path / str(workers), *how)
        assert done.exit_code == 0, done.stderr
        answers.append([sample["prediction"] for sample in samples(tmp_path / str(workers))])
    assert answers[0] == answers[1]


def test_another_run_is_not_written_over(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    evaluate(photos, tiny_model, tmp_path / "run")
    other = evaluate(photos, tiny_model, tmp_path / "run", "--template", "one {}")
    assert other.exit_code == 2
    assert "another run" in other.stderr
    assert evaluate(photos, tiny_model, tmp_path / "run", "--template", "one {}", "--no-resume").exit_code == 0


def test_runs_have_a_folder_of_their_own_for_every_configuration(
    photos: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "names.txt"
    for more in ([], ["--template", "one {}"], ["-o", "templates=single"], ["--limit", "6"], ["--seed", "3"], ["--batch-size", "5"]):
        done = call("eval", "-t", f"folder:{photos}", "-m", f"local:{tiny_model}", "--no-report", *more)
        assert done.exit_code == 0, done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 5  # the batch size changes no number
    names.write_text("hound\nkitten\nsack\n")
    assert len(json.loads(call("ls", "runs", "--json").stdout)) == 5


def test_compare_and_score_need_no_model(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    evaluate(photos, tiny_model, a)
    evaluate(photos, tiny_model, b, "--template", "the bad {}")
    compared = json.loads(call("compare", a, b, "--json").stdout)
    first, second = (json.loads((run / "results.json").read_text())["metrics"]["top1"]["value"] for run in (a, b))
    assert compared["difference"]["value"] == pytest.approx(second - first)
    text = call("compare", a, b).stdout
    assert "McNemar" in text
    rescored = json.loads(call("score", a, "--json").stdout)
    assert rescored["metrics"] == json.loads((a / "results.json").read_text())["metrics"]
    (b / "report.html").unlink()
    assert call("report", b, "--compare", a).stdout.strip() == str(b / "report.html")
    assert (b / "report.html").exists()


def test_a_report_is_written_again_without_the_images(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    evaluate(photos, tiny_model, tmp_path / "run")
    with_images = (tmp_path / "run" / "report.html").read_text().count("data:image")
    shutil.rmtree(photos)
    assert call("report", tmp_path / "run").exit_code == 0
    assert (tmp_path / "run" / "report.html").read_text().count("data:image") < with_images


# what can be wrong with one image: the sample fails, the run goes on, the exit code is 4


def png_bomb() -> bytes:
    """A PNG of 14,000 x 14,000 pixels in its header; small as a file."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 14_000, 14_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")


def animated_gif(path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def spoil(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("this is no image")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "bomb":
        path.write_bytes(png_bomb())
    else:
        animated_gif(path)


@pytest.mark.parametrize("how", ["text", "truncated", "empty", "bomb", "animation"])
def test_one_bad_image_is_recorded_and_counted(how: str, photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    bad = photos / "red bag" / "1.png"
    spoil(bad, how)
    result = evaluate(photos, tiny_model, tmp_path / "run")
    assert result.exit_code == 4, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["n"], printed["n_failed"], printed["metrics"]["top1"]["n"]) == (12, 1, 11)
    failed = [sample for sample in samples(tmp_path / "run") if sample["error"]]
    assert [sample["prediction"] for sample in failed] == [None]
    assert "1.png" in failed[0]["error"]
    assert call("score", tmp_path / "run").exit_code == 4


def test_a_repaired_image_is_all_that_is_done_again(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    good = (photos / "red bag" / "1.png").read_bytes()
    spoiled = bytes(len(good))
    (photos / "red bag" / "1.png").write_bytes(spoiled)
    assert evaluate(photos, tiny_model, tmp_path / "run").exit_code == 4
    (photos / "red bag" / "1.png").write_bytes(good)
    result = evaluate(photos, tiny_model, tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["n_failed"] == 0


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "L", "P", "RGBA"])
def test_unusual_pixel_formats_are_read(mode: str, photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels).convert("RGB").convert(mode)
    (photos / "red bag" / "1.png").unlink()
    image.save(photos / "red bag" / ("1.jpg" if mode == "CMYK" else "1.png"))
    result = evaluate(photos, tiny_model, tmp_path / "run")
    assert result.exit_code == 0, result.stderr


# what can be wrong with the call


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in result.stderr


def test_a_folder_that_is_not_there(tiny_model: Path, tmp_path: Path) -> None:
    refused(evaluate(tmp_path / "none", tiny_model, tmp_path / "run"), 3, "none", "hint: ")


def test_an_empty_folder(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = evaluate(tmp_path / "empty", tiny_model, tmp_path / "run")
    refused(result, result.exit_code, "empty", "hint: ")
    assert result.exit_code in (2, 3)


def test_one_class_only(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("red bag", "white dog"):
        shutil.rmtree(photos / name)
    refused(evaluate(photos, tiny_model, tmp_path / "run"), 2, "class")


def test_class_names_that_do_not_fit(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("black cat\nred bag\n")
    refused(evaluate(photos, tiny_model, tmp_path / "run", "--classnames", tmp_path / "names.txt"), 2, "white dog")


def test_labels_out_of_range(tiny_model: Path, tmp_path: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "PNG")
    rows = [{"bytes": picture.getvalue(), "path": None}] * 4
    pq.write_table(pa.table({"image": rows, "label": [0, 1, 2, 7]}), tmp_path / "data.parquet")
    (tmp_path / "names.txt").write_text("black cat\nred bag\nwhite dog\n")
    names = ("--classnames", tmp_path / "names.txt")
    result = call("eval", "-t", f"parquet:{tmp_path / 'data.parquet'}", "-m", f"local:{tiny_model}", "--output", tmp_path / "run", *names)
    refused(result, 2, "7")


def test_a_template_without_a_slot(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    refused(evaluate(photos, tiny_model, tmp_path / "run", "--template", "a photo"), 2, "{}")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-t", "bazaar/categroy"], 2, ["bazaar/category"]),
        (["-m", "pocket-clap"], 3, ["pocket-clip"]),
        (["-m", "local:nowhere"], 3, ["nowhere"]),
        (["-m", "open_clip:ViT-B-32"], 3, []),
        (["--method", "zeroshot"], 2, ["zero-shot"]),
        (["-o", "temprature=1"], 2, ["temperature"]),
        (["-o", "temperature"], 2, ["key=value"]),
        (["--device", "cuda"], 3, ["cuda"]),
        (["--device", "abacus"], 2, ["abacus"]),
        (["--dtype", "float7"], 2, ["float7"]),
        (["--load-in-4bit"], 2, ["bfloat16"]),
        (["--classnames", "nowhere.txt"], 3, ["nowhere.txt"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_word_in_the_call(
    arguments: list[str], code: int, words: list[str], photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    refused(evaluate(photos, tiny_model, tmp_path / "run", *arguments), code, *words)


def test_an_output_that_cannot_be_written(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(evaluate(photos, tiny_model, tmp_path / "file" / "run"), 2, "file")


# embed


def rows(out: Path) -> tuple[np.ndarray, list[str]]:
    from safetensors.numpy import load_file

    matrix = np.concatenate([load_file(path)["embeddings"] for path in sorted(out.glob("*.safetensors"))])
    names = [json.loads(line)["id"] for path in sorted(out.glob("ids-*.jsonl")) for line in path.read_text().splitlines()]
    return matrix, names


def test_embed_writes_unit_rows_that_the_encoder_gives(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    from toolkit.models import load_encoder

    result = call("embed", photos, "-m", f"local:{tiny_model}", "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    matrix, names = rows(tmp_path / "out")
    assert names == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    expected = load_encoder(f"local:{tiny_model}", cache=False).encode_images([photos / name for name in names])
    np.testing.assert_allclose(matrix, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)


def test_embed_goes_on_where_it_stopped(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    from toolkit.embed import embed_folder
    from toolkit.models import load_encoder

    spoil(photos / "red bag" / "1.png", "text")
    spoil(photos / "white dog" / "3.png", "empty")
    encoder = load_encoder(f"local:{tiny_model}", cache=False)
    whole = embed_folder(encoder, photos, tmp_path / "whole", shard_size=5, batch_size=2)
    assert (whole.n, whole.n_failed, whole.n_resumed) == (10, 2, 0)

    def stop(done: int, total: int) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_folder(encoder, photos, tmp_path / "cut", shard_size=5, batch_size=2, progress=stop)
    assert json.loads((tmp_path / "cut" / "manifest.json").read_text())["status"] == "running"
    resumed = embed_folder(encoder, photos, tmp_path / "cut", shard_size=5, batch_size=2)
    assert (resumed.n, resumed.n_failed, resumed.n_resumed) == (10, 2, 5)
    for a, b in zip(rows(tmp_path / "whole"), rows(tmp_path / "cut"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "whole" / "failures.jsonl").read_text() == (tmp_path / "cut" / "failures.jsonl").read_text()


def test_embed_with_failures_leaves_with_4(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    spoil(photos / "red bag" / "1.png", "bomb")
    result = call("embed", photos, "-m", f"local:{tiny_model}", "-o", tmp_path / "out")
    assert result.exit_code == 4
    failure = json.loads((tmp_path / "out" / "failures.jsonl").read_text())
    assert failure["id"] == "red bag/1.png"


def test_embed_does_not_mix_models_or_images(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    from tests.tiny import tiny_hf_clip

    other = tiny_hf_clip(tmp_path / "other", seed=1)
    assert call("embed", photos, "-m", f"local:{tiny_model}", "-o", tmp_path / "out").exit_code == 0
    refused(call("embed", photos, "-m", f"local:{other}", "-o", tmp_path / "out"), 2, "another model", "--no-resume")
    (photos / "red bag" / "1.png").unlink()
    refused(call("embed", photos, "-m", f"local:{tiny_model}", "-o", tmp_path / "out"), 2, "other images")
    assert call("embed", photos, "-m", f"local:{tiny_model}", "-o", tmp_path / "out", "--no-resume").exit_code == 0
    assert rows(tmp_path / "out")[0].shape[0] == 11


def test_embed_of_what_is_not_there(tiny_model: Path, tmp_path: Path) -> None:
    refused(call("embed", tmp_path / "none", "-m", f"local:{tiny_model}", "-o", tmp_path / "out"), 3, "none")
    (tmp_path / "empty").mkdir()
    refused(call("embed", tmp_path / "empty", "-m", f"local:{tiny_model}", "-o", tmp_path / "out"), 3, "empty")


def test_a_wrong_model_name_leaves_no_folder_behind(photos: Path, tmp_path: Path) -> None:
    result = call("eval", "-t", f"folder:{photos}", "-m", "pocket-clap", "--output", tmp_path / "runs" / "one")
    assert result.exit_code == 3
    assert "'pocket-clip'" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("make", [tiny.tiny_hf_clip, tiny.tiny_siglip, tiny.tiny_siglip2, tiny.tiny_vtde, tiny.tiny_open_clip])
def test_every_kind_of_checkpoint_folder_is_evaluated(make: Callable[[Path], Path], tmp_path: Path) -> None:
    from evals.demo import PHOTOS

    checkpoint = make(tmp_path / "checkpoint")
    wanted = ("eval", "-t", "eurosat", "--data", PHOTOS, "-m", f"local:{checkpoint}", "--output", tmp_path / "run", "--no-report", "--json")
    result = call(*wanted)
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    assert (printed["n"], printed["n_failed"]) == (300, 0)
    low, high = printed["metrics"]["top1"]["ci95"]
    assert low <= printed["metrics"]["top1"]["value"] <= high < 0.5  # random weights: near guessing
