"""The plugin inside the installed lmms-eval, on a task of our own, as a user runs it: by command line and entry point."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny_mllm import write_llava

ROOT = Path(__file__).resolve().parents[2]
DOCS = 4
TASK = """\
task: tiny_colours
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
output_type: generate_until
doc_to_visual: !function tiny_utils.visual
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_new_tokens: 4, temperature: 0, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
UTILS = "from PIL import Image\n\n\ndef visual(doc):\n    return [Image.open(doc['picture']).convert('RGB')]\n"
# One process, three commands: the import of lmms-eval takes longer than all of them.
COMMANDS = """\
import json, sys
from lmms_eval.__main__ import cli_evaluate
from lmms_eval.caching.response_cache import ResponseCache

finalize = ResponseCache.finalize
def report(self, *args, **kwargs):
    print("CACHE", json.dumps([self._hits, self._misses]), flush=True)
    return finalize(self, *args, **kwargs)
ResponseCache.finalize = report
for arguments in json.load(open(sys.argv[1])):
    sys.argv = ["lmms-eval", *arguments]
    try:
        cli_evaluate()
    except BaseException as error:
        print("RAISED", type(error).__name__, error, flush=True)
"""


def make_task(folder: Path, name: str = "tiny_colours", *, broken: bool = False) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for index in range(DOCS):
        picture = folder / f"{name}_{index}.png"
        Image.fromarray(generator.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(picture)
        if broken and index == 2:
            picture.write_bytes(b"no picture")
        lines.append(json.dumps({"question": f"what colour is thing {index} ?", "answer": "red", "picture": str(picture)}))
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / f"{name}.yaml").write_text(TASK.format(data=data).replace("tiny_colours", name), encoding="utf-8")


@pytest.mark.slow
def test_a_patched_model_runs_a_task_writes_its_decisions_and_answers_from_the_cache(tmp_path: Path) -> None:
    if importlib.util.find_spec("lmms_eval") is None:
        pytest.skip("lmms-eval is not installed: pip install -e .[lmms-eval]")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "tiny_utils.py").write_text(UTILS, encoding="utf-8")
    make_task(tasks)
    make_task(tasks, "tiny_broken", broken=True)
    model = write_llava(tmp_path / "model")
    # Entry points come from the installed package; here from setup.py, so that the test sees the tree as it is.
    egg = tmp_path / "egg"
    egg.mkdir()
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(egg)], cwd=ROOT, check=True, capture_output=True)

    def arguments(task: str) -> list[str]:
        options = f"pretrained={model},method=contrastive-attention,rho=0.5,candidates=[1],late=2,review=3"
        return [
            "--model", "permafrost_llava", "--model_args", options, "--tasks", task,
            "--include_path", str(tasks), "--batch_size", "2", "--device", "cpu", "--log_samples", "--output_path", str(tmp_path / "out"),
            "--use_cache", str(tmp_path / "cache"),
        ]  # fmt: skip

    (tmp_path / "commands.json").write_text(json.dumps([arguments("tiny_colours")] * 2 + [arguments("tiny_broken")]))
    (tmp_path / "run.py").write_text(COMMANDS, encoding="utf-8")
    paths = [str(egg), str(ROOT), *(path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path / "home"), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    run = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "commands.json")], env=environment, capture_output=True, text=True,
        timeout=900, cwd=tmp_path,
    )  # fmt: skip
    said = run.stdout + run.stderr
    cache = [json.loads(line.removeprefix("CACHE ")) for line in run.stdout.splitlines() if line.startswith("CACHE ")]
    assert cache[:2] == [[0, DOCS], [DOCS, 0]], said[-6000:]

    [decided] = (tmp_path / "out").rglob("permafrost_decisions.jsonl")
    lines = [json.loads(line) for line in decided.read_text(encoding="utf-8").splitlines()]
    good = {line["doc_id"]: line for line in lines if line["task"] == "tiny_colours"}
    assert sorted(good) == list(range(DOCS))
    assert all(line["error"] is None and line["decision"] for line in good.values())
    samples = list(decided.parent.glob("*_samples_tiny_colours.jsonl"))
    assert len(samples) == 2
    for path in samples:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [good[row["doc_id"]]["answer"].strip() for row in rows] == [row["filtered_resps"] for row in rows]

    assert "1 of 4 questions could not be answered" in said
    bad = {line["doc_id"]: line["error"] for line in lines if line["task"] == "tiny_broken"}
    assert [doc for doc, error in bad.items() if error] == [2]
    assert not list(decided.parent.glob("*_samples_tiny_broken.jsonl"))
