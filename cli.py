"""The command line. Only click at the top: each command imports what it needs inside its function, so that help is instant.

Exit codes: 0 ok, 1 our bug, 2 usage, 3 missing data, weights or dependency, 4 finished with failed samples, 130 interrupted.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 120}


class Permafrost(click.Group):
    """Turns whatever escapes a command into a sentence and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort, BrokenPipeError):
            raise  # click's own, and the reader of our output that went away (`permafrost ls models | head -1`)
        except KeyboardInterrupt:
            click.echo("\ninterrupted: what was done is kept\nhint: run the same command again, it continues where it stopped", err=True)
            ctx.exit(130)
        except Exception as error:
            from evals.console import explain

            ctx.exit(explain(error))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from toolkit.version import VERSION

        click.echo(f"permafrost {VERSION}")
        ctx.exit()


def _go_offline(_: click.Context, __: click.Parameter, wanted: bool) -> bool:
    """The libraries below read these variables when they are imported, which is later; they hold for this process only."""
    if wanted:
        os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    return wanted


MODELS = "pocket-clip, open_clip:ARCH/PRETRAINED, hf:REPO[@REV] or local:DIR."
ANSWERERS = "pocket-llava, hf:REPO[@REV] or local:DIR."
model_option = click.option("-m", "--model", default="pocket-clip", show_default=True, help=MODELS)
json_option = click.option("--json", "as_json", is_flag=True, help="Print pure JSON on stdout.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
dtype_option = click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
offline_option = click.option("--offline", is_flag=True, callback=_go_offline, help="Never touch the network: use what is on this machine.")
pickle_option = click.option("--allow-pickle", is_flag=True, help="Also load .bin and .pt weights (still with weights_only).")
method_options = click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the method. Repeatable.")
classnames_option = click.option(
    "--classnames", type=click.Path(path_type=Path), help="A file with one class name a line, in the order of the labels."
)
DATA_OPTIONS = (
    click.option("--task-option", "task_options", multiple=True, metavar="KEY=VALUE", help="An option of the task, as size=256."),
    click.option("--data", help="A local copy of the task's data: a folder or a file."),
)
SUPPORT_OPTIONS = (
    click.option("--shots", type=click.IntRange(min=1), help="Labelled images a class for methods that learn from a few."),
    click.option("--support", metavar="SPLIT", help="Where they come from: a split, folder:DIR, parquet:FILE, or none.  [default: train]"),
    click.option("--draw-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which --shots are drawn."),
)
QUANTISE_OPTIONS = (
    click.option("--load-in-4bit", "bits4", is_flag=True, help="Quantise a language model's weights to 4 bits (NF4)."),
    click.option("--load-in-8bit", "bits8", is_flag=True, help="Quantise a language model's weights to 8 bits."),
)
device_map_option = click.option("--device-map", metavar="MAP", help="auto: spread a model that answers over all devices and the CPU.")
ANSWERER_OPTIONS = (
    *QUANTISE_OPTIONS,
    device_map_option,
    click.option("--max-new-tokens", type=click.IntRange(min=1), help="Length of an answer.  [default: the task's]"),
)
MODEL_OPTIONS = (
    device_option,
    dtype_option,
    click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a forward pass."),
    click.option("--workers", type=click.IntRange(min=0), default=None, help="Processes that decode images.  [default: by CPU]"),
    offline_option,
    pickle_option,
    click.option("--no-cache", "cache", is_flag=True, flag_value=False, default=True, help="Neither read nor fill the feature cache."),
)


def options(*several: Any) -> Callable[[Any], Any]:
    """One decorator for several options, in the order in which help shows them."""
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(several), command)


model_options = options(*MODEL_OPTIONS)


def _bits(given: dict[str, Any]) -> int | None:
    """4, 8 or None from the two flags, which are taken out of ``given``."""
    from toolkit.errors import UsageError

    four, eight = given.pop("bits4"), given.pop("bits8")
    if four and eight:
        raise UsageError("--load-in-4bit and --load-in-8bit contradict each other", hint="choose one")
    return 4 if four else 8 if eight else None


@click.group(cls=Permafrost, context_settings=HELP)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version.")
def cli() -> None:
    """More out of frozen vision-language models, without training them.

    \b
    Start here:
      permafrost demo
      permafrost eval -t bazaar/category -m pocket-clip
      permafrost eval -t folder:photos -m open_clip:ViT-B-32/openai
    """


def _load_encoder(name: str, **how: Any) -> Any:
    from toolkit.models import load_encoder

    return load_encoder(name, **how)


def _load_answerer(name: str, **how: Any) -> Any:
    from toolkit.models.registry import load_answerer

    return load_answerer(name, **how)


def _evaluate(request: Any, **loaders: Callable[..., Any]) -> Any:
    """Evaluate with the real models and methods, alone or as one of the processes of a launcher."""
    from evals.console import progress_bar
    from evals.session import evaluate
    from toolkit.launch import place
    from toolkit.methods import build_method

    here = place(request.device)
    load = {"load_encoder": _load_encoder, "load_answerer": _load_answerer} | loaders
    with progress_bar(request.task, shown=here is None or here.rank == 0) as progress:
        return evaluate(request, **load, build_method=build_method, place=here, progress=progress)


def _finish(n_failed: int) -> None:
    """Leave with 4 if samples failed."""
    if n_failed:
        click.get_current_context().exit(4)


def _show(value: Any, as_json: bool, show: Callable[..., None], *more: Any) -> None:
    """Pure JSON on stdout, or what a person wants to see."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        show(value, *more)


@cli.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Where to write.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many samples a task.")
@model_option
@click.option("--answerer", default="pocket-llava", show_default=True, help=f"Who answers questions: {ANSWERERS}")
@device_option
@json_option
def demo(as_json: bool, **given: Any) -> None:
    """Evaluate frozen models on real photos, rendered goods and questions about scenes, and write one report of it all.

    \b
    Example:
      permafrost demo

    Exit code 3 if a model is not installed; what does not need it is still shown.
    """
    from evals.console import print_demo
    from evals.demo import run_demo

    once = {"load_encoder": functools.cache(_load_encoder), "load_answerer": functools.cache(_load_answerer)}
    shown = run_demo(functools.partial(_evaluate, **once), given.pop("output"), say=functools.partial(click.echo, err=True), **given)
    _show(shown.comparisons if as_json else shown, as_json, print_demo)
    if shown.missing:
        click.get_current_context().exit(3)
    _finish(sum(run.results["n_failed"] for run in shown.runs))


@cli.command("eval")
@click.option("-t", "--task", required=True, help="A task: see `permafrost ls tasks`; folder:DIR, vqav2:DIR and the like also work.")
@click.option("-m", "--model", default="", show_default="pocket-clip; pocket-llava for questions", help=MODELS)
@click.option("--method", default="", show_default="zero-shot; plain for questions", help="A method: see `permafrost ls methods`.")
@method_options
@options(*DATA_OPTIONS)
@classnames_option
@click.option("--template", "templates", multiple=True, metavar="TEXT", help='A sentence with {} for the class name. Repeatable.')
@device_option
@dtype_option
@options(*ANSWERER_OPTIONS)
@click.option("--batch-size", type=click.IntRange(min=1), show_default="32; 8 for questions", help="Images a forward pass.")
@options(*MODEL_OPTIONS[3:])
@options(*SUPPORT_OPTIONS)
@click.option("--limit", type=click.IntRange(min=1), help="Evaluate so many samples, drawn by --seed.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random choice.")
@click.option("--output", type=click.Path(path_type=Path), help="The run folder.  [default: runs/TASK-MODEL-METHOD-HASH]")
@click.option("--no-resume", "resume", is_flag=True, flag_value=False, default=True, help="Start over.")
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html into the run folder.")
@json_option
def eval_command(as_json: bool, **given: Any) -> None:
    """Evaluate a frozen model on a task: metrics with intervals, every answer on file, a report.

    \b
    Examples:
      permafrost eval -t bazaar/lines -m pocket-clip
      permafrost eval -t folder:photos -m open_clip:ViT-B-32/openai --template "a photo of a {}."
      permafrost eval -t eurosat --data eurosat.parquet -m hf:openai/clip-vit-base-patch32 --limit 500 --json
      permafrost eval -t bazaar/vqa -m pocket-llava --method contrastive-attention -o rho=0.3
      permafrost eval -t vqav2:data/vqav2 -m hf:llava-hf/llava-1.5-7b-hf --method vicrop --load-in-4bit --limit 500
      accelerate launch --num_processes 2 -m cli eval -t imagenet --data imagenet -m local:checkpoints/clip

    Ctrl-C keeps what was done, and the same command continues from there. Images that cannot be read are recorded,
    counted, and left out of the metrics; the exit code is then 4.
    """
    from evals.console import print_results
    from evals.session import EvalRequest
    from toolkit.config import parse_options
    from toolkit.launch import leave

    given |= {name: parse_options(given[name]) for name in ("options", "task_options")} | {"quantise": _bits(given)}
    try:
        outcome = _evaluate(EvalRequest(**given))
    finally:
        leave()
    if os.environ.get("RANK", "0") == "0":  # the first process speaks for all: a launcher ends the others when one leaves with a code
        _show(outcome.results, as_json, print_results, outcome.folder, outcome.report)
        _finish(outcome.results["n_failed"])


@cli.command("explain")
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("-t", "--task", required=True, help="The task whose classes and descriptions are compared.")
@model_option
@click.option("--method", default="classname-free", show_default=True, help="A method that explains itself.")
@method_options
@options(*DATA_OPTIONS)
@click.option("--sample", "samples", multiple=True, metavar="ID", help="A sample of the task, by id or number. Repeatable.")
@options(*SUPPORT_OPTIONS)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw it; several images get numbers.")
@model_options
@json_option
def explain_command(images: tuple[str, ...], samples: tuple[str, ...], out: Path | None, as_json: bool, **given: Any) -> None:
    """Explain why an image gets its class: what name and descriptions say, when the answer flips, which text decides.

    IMAGE is a file, or the number of a sample of the task.

    \b
    Examples:
      permafrost explain photo.jpg -t eurosat --shots 16 --out why.png
      permafrost explain -t bazaar/lines --sample 7 -o w_cls=0 --json
    """
    from evals.console import progress_bar
    from evals.explaining import draw, explain_images, picture_path
    from evals.session import EvalRequest
    from toolkit.config import parse_options
    from toolkit.methods import build_method
    from toolkit.methods.descriptions.explain_text import plain, sentence
    from toolkit.models import load_encoder

    picture_path(out, 0, 1)  # a wrong ending is found before a model is loaded
    given |= {name: parse_options(given[name]) for name in ("options", "task_options")}
    request = EvalRequest(**given)
    told: list[dict[str, Any]] = []
    with progress_bar("explaining", shown=not as_json):
        for done in explain_images(request, images, samples, load_encoder=load_encoder, build_method=build_method):
            why = done.explanation
            facts = {"image": done.name, "sentence": sentence(why), **why.to_json()}
            path = picture_path(out, len(told), len(images) + len(samples))
            if path is not None:
                draw(path, facts, done.image, footer=f"{request.task} · {request.model} · {request.method}")
                facts["picture"] = str(path)
            told.append(facts)
            if not as_json:
                click.echo(("\n" if len(told) > 1 else "") + f"{done.name}\n{plain(why)}" + (f"\npicture: {path}" if path else ""))
    if as_json:
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))


@cli.command()
@click.argument("run_a", metavar="RUN_A", type=click.Path(path_type=Path))
@click.argument("run_b", metavar="RUN_B", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
@json_option
def compare(run_a: Path, run_b: Path, seed: int, as_json: bool) -> None:
    """Compare two runs of one task, sample by sample: exact McNemar and a paired bootstrap. No model is loaded.

    \b
    Example:
      permafrost compare runs/single runs/ensemble
    """
    from evals.console import print_comparison
    from evals.records import compare_runs

    _show(compare_runs(run_a, run_b, seed=seed), as_json, print_comparison)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--compare", "others", multiple=True, type=click.Path(path_type=Path), help="A run to compare with. Repeatable.")
def report(run: Path, others: tuple[Path, ...]) -> None:
    """Write report.html of a run anew, with comparisons if wanted. No model is loaded.

    \b
    Example:
      permafrost report runs/ensemble --compare runs/single
    """
    from evals.session import write_run_report

    click.echo(write_run_report(run, compare=others))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--scorer", "scorers", multiple=True, metavar="NAME", help="Score answers by this one, as vqa_official@1. Repeatable.")
@json_option
def score(run: Path, scorers: tuple[str, ...], as_json: bool) -> None:
    """Compute the metrics of a run again from its samples.jsonl. No model is loaded and nothing is written.

    \b
    Examples:
      permafrost score runs/ensemble --json
      permafrost score runs/llava-vqav2 --scorer vqa_normalised --scorer vqa_evalai
    """
    from evals.console import print_results
    from evals.records import rescore

    results = rescore(run, scorers or None)
    _show(results, as_json, print_results, run, None)
    _finish(results["n_failed"])


@cli.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("question")
@click.option("-m", "--model", default="pocket-llava", show_default=True, help=ANSWERERS)
@click.option("--method", default="plain", show_default=True, help="A method that answers: see `permafrost ls methods`.")
@method_options
@click.option("--plain", is_flag=True, help="Also answer without the method, to compare.")
@click.option("--show", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw where it looked; several images get numbers.")
@device_option
@dtype_option
@options(*QUANTISE_OPTIONS)
@device_map_option
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Length of an answer.  [default: 64]")
@offline_option
@pickle_option
@json_option
def answer(as_json: bool, **given: Any) -> None:
    """Ask a frozen model a question about one image, or about several together.

    \b
    Examples:
      permafrost answer photo.jpg "What colour is the mug?"
      permafrost answer photo.jpg "Is the screen cracked?" --method contrastive-attention --plain --show maps.png
      permafrost answer before.jpg after.jpg "What has changed?" -m hf:Qwen/Qwen2.5-VL-7B-Instruct --load-in-4bit --json
    """
    from evals.asking import AskRequest, ask
    from evals.console import print_answers
    from toolkit.config import parse_options
    from toolkit.methods import build_method

    given |= {"options": parse_options(given["options"]), "quantise": _bits(given)}
    request = AskRequest(**given)
    told = ask(request, load_answerer=_load_answerer, build_method=build_method)
    failed = print_answers(told, as_json=as_json, several=request.plain)
    _finish(failed)


@cli.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@model_option
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for shards and ids.")
@model_options
@click.option("--no-resume", "resume", is_flag=True, flag_value=False, default=True, help="Start over.")
@json_option
def embed(folder: Path, model: str, output: Path, batch_size: int, workers: int | None, as_json: bool, **given: Any) -> None:
    """Embed every image below DIR: safetensors shards, and JSON lines that say which row is which image.

    \b
    Example:
      permafrost embed photos -m open_clip:ViT-B-32/openai -o photos.embeddings

    Ctrl-C keeps the finished shards, and the same command continues. Images that cannot be read go to failures.jsonl;
    the exit code is then 4.
    """
    from evals.console import print_facts, progress_bar
    from toolkit.embed import check_output, embed_folder
    from toolkit.models import load_encoder

    check_output(folder, output)
    resume = given.pop("resume")
    encoder = load_encoder(model, **given)
    with progress_bar("embedding") as progress:
        result = embed_folder(encoder, folder, output, batch_size=batch_size, workers=workers, resume=resume, progress=progress)
    _show({**result._asdict(), "out": str(result.out)}, as_json, print_facts)
    _finish(result.n_failed)


@cli.command("describe")
@click.argument("classes", metavar="CLASSES")
@click.option("-m", "--model", required=True, help="A language or image-text model: local:DIR or hf:REPO[@REV].")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The pool: a JSON file {class: [texts]}.")
@click.option("--run", type=click.Path(path_type=Path), help="A finished run on these classes: rivals are those that it confuses.")
@click.option("--encoder", default="pocket-clip", show_default=True, help="Rivals have near captions here; none: the next names.")
@click.option("--about", default="photos", show_default=True, help='What the images are, as in "satellite photos".')
@click.option("--rivals", type=click.IntRange(min=1), default=3, show_default=True, help="Contrast each class with so many.")
@click.option("--texts", type=click.IntRange(min=1), default=6, show_default=True, help="Ask for so many texts each time.")
@click.option("--most", type=click.IntRange(min=1), default=12, show_default=True, help="Keep at most so many texts a class.")
@click.option("--temperature", type=click.FloatRange(0, 10, max_open=True), default=0.0, show_default=True, help="0: the likeliest words.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=200, show_default=True, help="Length of an answer.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of sampling.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--load-in-4bit", "bits", flag_value=4, type=int, help="Quantise the weights to 4 bits.")
@click.option("--load-in-8bit", "bits", flag_value=8, type=int, help="Quantise the weights to 8 bits.")
@click.option("--offline", is_flag=True, callback=_go_offline, help="Never touch the network: use what is on this machine.")
@click.option("--no-resume", "resume", is_flag=True, flag_value=False, default=True, help="Start over.")
@json_option
def describe_command(classes: str, model: str, output: Path, run: Path | None, encoder: str, as_json: bool, **given: Any) -> None:
    """Let a language model write what tells each class from its rivals: a pool of descriptions without class names.

    CLASSES is a file with one class name a line, the name of a prompt set, or names with commas between them.

    \b
    Examples:
      permafrost describe eurosat -m hf:Qwen/Qwen2.5-7B-Instruct -o eurosat.json --about "satellite photos"
      permafrost describe names.txt -m local:models/llava -o pool.json --run runs/first

    Every answer is kept in OUTPUT.answers.jsonl, and the same command continues from there. Class names, repeats and what no
    photo shows are taken out.
    """
    from evals.confusions import confused_names
    from evals.console import print_facts, progress_bar
    from evals.tasks.prompts import class_list
    from toolkit.describe import DescribeOptions, describe, following_names, nearest_names
    from toolkit.models.language import load_language_model

    names, resume = class_list(classes), given.pop("resume")
    settings = {name: given.pop(name) for name in ("device", "dtype", "offline")} | {"quantise": given.pop("bits")}
    options = DescribeOptions(**given)
    if run is not None:
        rivals = confused_names(run, options.rivals, names)
    elif encoder == "none":
        rivals = following_names(names, options.rivals)
    else:
        rivals = nearest_names(_load_encoder(encoder, device=settings["device"]), names, options.rivals)
    writer = load_language_model(model, **settings)
    with progress_bar("describing") as progress:
        done = describe(writer, names, rivals, output, options, resume=resume, progress=progress)
    facts = {"pool": str(done.path), "answers": str(done.answers), "texts": sum(map(len, done.pool.values())), "removed": done.removed}
    _show(facts | {"classes without texts": done.empty}, as_json, print_facts)


@cli.command("ls")
@click.argument("what", type=click.Choice(["models", "methods", "tasks", "prompts", "runs"]))
@click.argument("contains", required=False, default="")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where the runs are.")
@json_option
def list_command(what: str, contains: str, folder: Path, as_json: bool) -> None:
    """List models, methods, tasks, prompts or runs; CONTAINS keeps the names with that text in them.

    \b
    Examples:
      permafrost ls models ViT-B-32
      permafrost ls runs --json
    """
    from evals.catalogue import catalogue
    from evals.console import print_rows

    rows = catalogue(what, folder, functools.partial(_implementations, what))
    _show([row for row in rows if contains.lower() in row["name"].lower()], as_json, print_rows)


def _implementations(what: str) -> list[tuple[str, str, str | None]]:
    """(name, family, where) of models and methods."""
    from toolkit.methods import METHODS, family_of
    from toolkit.models import list_models

    if what == "models":
        return [(name, "answer" if name == "pocket-llava" else "classify", None) for name in list_models()]
    return [(name, family_of(name), place) for name, place in METHODS.items()]


@cli.command()
@click.argument("action", type=click.Choice(["info", "verify", "prune"]))
@click.option("--max-gb", type=click.FloatRange(min=0), help="prune: keep at most so many gigabytes, the latest used ones.")
@click.option("--older-than-days", type=click.FloatRange(min=0), help="prune: remove what was not used for so many days.")
@json_option
def cache(action: str, max_gb: float | None, older_than_days: float | None, as_json: bool) -> None:
    """The feature cache: what is in it (info), is every entry whole (verify), make it smaller (prune).

    \b
    Example:
      permafrost cache prune --max-gb 5 --older-than-days 30
    """
    from evals.console import print_facts
    from toolkit.cache import default_store

    max_bytes = None if max_gb is None else int(max_gb * 1e9)
    if (max_bytes is None and older_than_days is None) == (action == "prune"):
        raise click.UsageError("--max-gb and --older-than-days say what `cache prune` removes: at least one with prune, none otherwise")
    store = default_store()
    limits: dict[str, Any] = {"max_bytes": max_bytes, "older_than_days": older_than_days} if action == "prune" else {}
    _show(getattr(store, action)(**limits), as_json, print_facts)


@cli.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="The folder to try to write to.")
@json_option
def doctor(output: Path, as_json: bool) -> None:
    """Check this installation: versions, devices, cache, offline state, shipped models. Exit code 3 if something is missing.

    \b
    Example:
      permafrost doctor --json
    """
    from evals.console import print_facts
    from toolkit.doctor import diagnose

    diagnosis = diagnose(output)
    _show(diagnosis, as_json, print_facts)
    if diagnosis["problems"]:
        click.get_current_context().exit(3)


@cli.command("audit")
@click.option("-t", "--task", required=True, help="A task: see `permafrost ls tasks`.")
@model_option
@click.option("--pool", default="task", show_default=True, help="task, the name of another pool of the task, or FILE.json.")
@click.option("--shots", type=click.IntRange(min=0), default=16, show_default=True, help="Labelled images a class; 0 for none.")
@click.option("--support", metavar="SPLIT", help="Where they come from: a split, folder:DIR or parquet:FILE.  [default: train]")
@click.option("--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Draw them so many times.")
@click.option("--draw-seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the first draw.")
@click.option("--full/--quick", "full", default=False, help="100 control seeds of each kind, or 20.  [default: quick]")
@click.option("--seeds", type=click.IntRange(min=1), help="Another number of control seeds.")
@click.option("--mode", type=click.Choice(["selected", "assigned"]), default="selected", show_default=True, help="What is judged.")
@click.option("--arm", "arms", multiple=True, metavar="NAME", help="Only this arm, beside those that the verdict needs. Repeatable.")
@click.option("-o", "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of classname-free, as k=5. Repeatable.")
@options(*DATA_OPTIONS)
@classnames_option
@model_options
@click.option("--limit", type=click.IntRange(min=1), help="Test on so many samples, drawn by --seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random choice.")
@click.option("--output", type=click.Path(path_type=Path), help="The folder of the result.  [default: runs/audit-TASK-MODEL-POOL-HASH]")
@json_option
def audit_command(**given: Any) -> None:
    """Does the gain of descriptions come from their meaning? Controls take one thing away at a time, fixed rules give a verdict.

    \b
    Examples:
      permafrost audit -t eurosat --shots 16 --draws 5 --full
      permafrost audit -t bazaar/lines -m pocket-clip --pool pool.json -o k=5
    """
    from evals.auditing import audit_task
    from evals.console import print_audit, progress_bar
    from evals.session import EvalRequest
    from toolkit.config import parse_options
    from toolkit.methods import build_method
    from toolkit.methods.descriptions.audit_arms import AuditOptions
    from toolkit.methods.descriptions.audit_run import FULL, QUICK, audit_samples
    from toolkit.models import load_encoder

    as_json, draws, full, seeds = (given.pop(name) for name in ("as_json", "draws", "full", "seeds"))
    settings = {"seeds": seeds or (FULL if full else QUICK), "arms": given.pop("arms"), "mode": given.pop("mode"), "seed": given["seed"]}
    AuditOptions(**settings)  # a wrong name is found before a model is loaded
    options = parse_options(given["options"]) | {"pool": given.pop("pool")}
    given |= {"options": options, "task_options": parse_options(given["task_options"]), "shots": given["shots"] or None}
    request = EvalRequest(**given, method="classname-free")
    tools: dict[str, Any] = {"load_encoder": load_encoder, "build_method": build_method, "audit_samples": audit_samples}
    with progress_bar("audit") as progress:
        done = audit_task(request, draws=draws, settings=settings, progress=progress, **tools)
    _show(done.result if as_json else done, as_json, print_audit)
    _finish(len(done.result["run"]["failures"]))


@cli.command("discover")
@click.option("-t", "--task", required=True, help="Questions with reference answers: bazaar/vqa, vqav2:DIR and the like.")
@click.option("-m", "--model", default="pocket-llava", show_default=True, help=ANSWERERS)
@click.option("--variant", "variants", multiple=True, metavar="NAME", help="Also study block_from or zero_from. Repeatable.")
@click.option("--scorer", metavar="NAME", help="What an answer is worth, as vqa_official@1.  [default: the task's first]")
@options(*DATA_OPTIONS)
@device_option
@dtype_option
@options(*ANSWERER_OPTIONS)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Questions a forward pass.")
@offline_option
@pickle_option
@click.option("--limit", type=click.IntRange(min=2), default=200, show_default=True, help="Ask so many questions, drawn by --seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every random choice.")
@click.option("--output", type=click.Path(path_type=Path), help="The folder of the result.  [default: runs/discover-TASK-MODEL-HASH]")
@click.option("--no-resume", "resume", is_flag=True, flag_value=False, default=True, help="Start over.")
@json_option
def discover_command(as_json: bool, **given: Any) -> None:
    """Find the layers of a model that fuse image and text: a calibration file for --method contrastive-attention, and a report.

    \b
    Examples:
      permafrost discover -m pocket-llava -t bazaar/vqa
      permafrost discover -m hf:llava-hf/llava-1.5-7b-hf -t vqav2:data/vqav2 --variant zero_from --output llava
      permafrost eval -m hf:llava-hf/llava-1.5-7b-hf -t vqav2:data/vqav2 --method contrastive-attention -o candidates=llava/calibration.json

    Every layer costs one pass over the questions. Ctrl-C keeps what was asked, and the same command goes on from there.
    """
    from evals.console import progress_bar
    from evals.discovering import DiscoverRequest, discover_task, lines
    from toolkit.config import parse_options
    from toolkit.methods.interventions.discover import StudyOptions, discover

    given |= {"task_options": parse_options(given["task_options"]), "quantise": _bits(given)}
    with progress_bar("discovering layers") as progress:
        tools: dict[str, Any] = {"load_answerer": _load_answerer, "discover": discover, "options": StudyOptions}
        done = discover_task(DiscoverRequest(**given), **tools, progress=progress)
    _show(done.calibration if as_json else lines(done), as_json, lambda told: click.echo("\n".join(told)))
    _finish(done.calibration["n_failed"])


@cli.command("lint-pool")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--classnames", type=click.Path(path_type=Path), help="A file with one class name a line: the classes of the data set.")
@click.option("--stop", "stop", multiple=True, metavar="WORD", help="A word that may occur although it is part of a name. Repeatable.")
@click.option("--clean", "output", type=click.Path(path_type=Path), help="Write the pool without its faults to this file.")
@click.option("--strict", is_flag=True, help="--clean also drops texts with a single word of their class name.")
@json_option
def lint_pool(file: Path, classnames: Path | None, stop: tuple[str, ...], output: Path | None, strict: bool, as_json: bool) -> None:
    """Check a pool of descriptions, {"class": ["text", ...]}: leaked class names, repeats, texts that no photo can show.

    \b
    Example:
      permafrost lint-pool prompts/descriptions/waffleclip/imagenet.json
      permafrost lint-pool pool.json --clean clean.json

    Exit code 2 if there are errors: leaked names, classes without texts, texts that CLIP would cut.
    """
    from evals.console import print_lint
    from toolkit.files import atomic_write_json, read_json, read_lines
    from toolkit.methods.descriptions.linter import DROPPED, clean, lint

    names = None if classnames is None else read_lines(classnames)
    pool = read_json(file)
    found = lint(pool, names, stop=stop)
    if output is not None:
        done = clean(pool, names, stop=stop, drop=(*DROPPED, "L2") if strict else DROPPED)
        atomic_write_json(output, done.pool)
        click.echo(f"{len(done.removed)} faults removed: {output}", err=True)
    _show(found.to_json(), as_json, print_lint, file)
    if any(hit.level == "error" for hit in found.hits):
        click.get_current_context().exit(2)


@cli.group()
def bazaar() -> None:
    """The procedural marketplace: look at its goods, export its tasks.

    \b
    Example:
      permafrost bazaar sheet items.png
    """


@bazaar.command()
@click.argument("file", metavar="FILE.png", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option("--cols", type=click.IntRange(1, 64), default=8, show_default=True)
@click.option("--size", type=click.IntRange(32, 1024), default=96, show_default=True, help="Side of an item in pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the world of items.")
def sheet(file: Path, rows: int, cols: int, size: int, seed: int) -> None:
    """Draw a sheet of items.

    \b
    Example:
      permafrost bazaar sheet items.png --size 256 --rows 4 --cols 4
    """
    import io

    from evals.bazaar import contact_sheet
    from toolkit.files import atomic_write_bytes

    picture = io.BytesIO()
    contact_sheet(rows, cols, size, seed).save(picture, "PNG")
    click.echo(atomic_write_bytes(file, picture.getvalue()))


@bazaar.command()
@click.argument("what", type=click.Choice(["classify", "vqa"]))
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--task", type=click.Choice(["category", "lines", "lines-heldout"]), help="Of classify.  [default: lines]")
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures, or questions.  [default for vqa: 2000]")
@click.option("--size", type=click.IntRange(32, 1024), default=96, show_default=True, help="Side of a picture in pixels.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the world of items.  [default: 0; the train split of vqa: 1]")
def export(what: str, folder: Path, **given: Any) -> None:
    """Write a task in a public format: classify gives a folder of class folders, vqa the official files of VQAv2.

    \b
    Examples:
      permafrost bazaar export classify goods --limit 1000
      permafrost eval -t folder:goods -m pocket-clip
      permafrost bazaar export vqa questions
      permafrost eval -t vqav2:questions -m pocket-llava
    """
    from evals.bazaar.export import export_task
    from evals.console import progress_bar

    with progress_bar(f"bazaar {what}") as progress:
        click.echo(export_task(what, folder, progress=progress, **given))


def main() -> None:
    """The console script."""
    cli(prog_name="permafrost")


if __name__ == "__main__":
    main()
