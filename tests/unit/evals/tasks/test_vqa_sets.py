"""Each VQA set in five hand-made rows of the official shape, and each with one malformed row that the error names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.metrics.vqa import get_scorer
from evals.tasks import get_task, list_tasks
from evals.tasks.vqa import VqaTask
from tests.unit.evals.tasks import vqa_folders as make
from toolkit.errors import DataError, DataNotFound, PermafrostError, UsageError

SHORT = "\nAnswer the question using a single word or phrase."
UNSURE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'." + SHORT


@pytest.mark.parametrize(
    ("kind", "name", "ids", "scorers", "prompt", "tokens"),
    [
        ("vqav2", "vqav2:val", ["1000", "1004"], ("vqa_normalised", "vqa_official"), make.QUESTIONS[2] + SHORT, 16),
        ("okvqa", "okvqa:val", ["1000", "1004"], ("vqa_evalai", "vqa_normalised"), make.QUESTIONS[2] + UNSURE, 16),
        ("gqa", "gqa:testdev", ["20070", "20074"], ("gqa_exact", "gqa_llava", "gqa_contains"), make.QUESTIONS[2] + SHORT, 16),
        ("vizwiz", "vizwiz:val", ["VizWiz_val_00000000.jpg", "VizWiz_val_00000004.jpg"], ("vqa_evalai", "vqa_normalised"),
         "Is there a nasa logo?" + UNSURE, 16),
        ("textvqa", "textvqa:val", ["34602", "34606"], ("vqa_evalai", "vqa_normalised"), "Is there a nasa logo?" + SHORT, 32),
        ("docvqa", "docvqa:val", ["49153", "49157"], ("anls", "anls_strict"), make.QUESTIONS[2] + SHORT, 32),
        ("jsonl", None, ["q0", "q4"], ("vqa_normalised", "vqa_official"), make.QUESTIONS[2] + SHORT, 16),
    ],
)  # fmt: skip
def test_official_files(tmp_path: Path, kind: str, name: str, ids: list[str], scorers: Any, prompt: str, tokens: int) -> None:
    place = make.MAKERS[kind](tmp_path)
    task = get_task(f"{kind}:{place}")
    assert isinstance(task, VqaTask)
    assert task.name == (name or f"jsonl:{place}")
    assert len(task) == 5
    assert [task.items[0].id, task.items[4].id] == ids
    assert task.metrics == scorers
    assert task.max_new_tokens == task.problem().max_new_tokens == tokens
    assert task.items[2].meta["question"] == make.QUESTIONS[2]
    assert task.items[2].meta["prompt"] == prompt
    for number, sample in enumerate(task.samples()):
        assert f"a{number}" in sample.meta["answers"]
        assert sample.image is not None
        assert sample.image.load().size == (8, 6)
    described = task.describe()
    assert described["scorers"] == dict.fromkeys(scorers, 1)
    assert described["primary"] == scorers[0]
    assert set(described["prompts"]) == {f"vqa/{kind}.yaml"}
    assert json.loads(json.dumps(described)) == described
    assert f"{kind}:" in list_tasks()


def test_types_for_the_breakdown(tmp_path: Path) -> None:
    def types(kind: str, field: str) -> list[Any]:
        return [sample.meta.get(field) for sample in get_task(f"{kind}:{make.MAKERS[kind](tmp_path / kind)}").items]

    assert types("vqav2", "question_type") == ["is", "what", "is", "what", "is"]
    assert types("gqa", "semantic_type") == ["obj", "attr", "obj", "attr", "obj"]
    assert types("vizwiz", "answerable") == ["unanswerable", "answerable"] * 2 + ["unanswerable"]
    assert types("docvqa", "question_type")[:2] == [["layout"], ["handwritten", "form"]]


def test_an_empty_answer_of_vizwiz_is_kept(tmp_path: Path) -> None:
    assert get_task(f"vizwiz:{make.vizwiz(tmp_path)}").items[1].meta["answers"].count("") == 3


def without(field: str, row: int = 3) -> make.Spoil:
    return lambda rows: (rows[row][1] if isinstance(rows[row], tuple) else rows[row]).pop(field)


def changed(field: str, value: Any, row: int = 3) -> make.Spoil:
    return lambda rows: (rows[row][1] if isinstance(rows[row], tuple) else rows[row]).update({field: value})


def twice(rows: list[Any]) -> None:
    rows[4] = rows[1]


NINE = [{"answer": "x"}] * 9
MALFORMED: list[tuple[str, dict[str, Any], list[str]]] = [
    ("vqav2", {"spoil": without("image_id")}, ["v2_OpenEnded_mscoco_val2014_questions.json", "questions[3]", "'image_id' is missing"]),
    ("vqav2", {"spoil": changed("question", 7)}, ["questions[3]", "'question' must be a text, not 7"]),
    ("vqav2", {"spoil": changed("image_id", "../42")}, ["questions[3]", "'image_id' must be a whole number, not '../42'"]),
    ("vqav2", {"spoil": changed("question_id", 9)}, ["questions[3]", "question_id 9 has no annotation"]),
    ("vqav2", {"spoil": twice}, ["questions[4]", "'question_id' holds '1001', which was there before, at questions[1]"]),
    ("vqav2", {"spoil_truth": twice}, ["v2_mscoco_val2014_annotations.json", "annotations[4]", "there before, at annotations[1]"]),
    ("vqav2", {"spoil_truth": changed("answers", NINE)}, ["annotations[3]", "'answers' must hold 10 answers, not 9"]),
    ("vqav2", {"spoil_truth": changed("answers", [])}, ["annotations[3]", "'answers' must be a list of answers, not []"]),
    ("vqav2", {"spoil_truth": changed("image_id", 7)}, ["annotations[3]", "'image_id' is 7, and 42 in the questions of question_id 1001"]),
    ("okvqa", {"spoil_truth": without("question_type")}, ["mscoco_val2014_annotations.json, annotations[3]", "'question_type' is missing"]),
    ("okvqa", {"spoil_truth": changed("answers", [{"text": "x"}] * 10)}, ["annotations[3]", "'answers[0]' must be a text or hold an"]),
    ("gqa", {"spoil": without("imageId")}, ["testdev_balanced_questions.json", "'20073'", "'imageId' is missing"]),
    ("gqa", {"spoil": without("answer")}, ["'20073'", "'answer' is missing"]),
    ("gqa", {"spoil": changed("types", 3)}, ["'20073'", "'types' must be an object, not 3"]),
    ("gqa", {"spoil": twice}, ["'20071'", "'question id' holds '20071', which was there before"]),
    ("gqa", {"spoil": changed("imageId", "../../etc/x")}, ["'20073'", "leads out of the data folder"]),
    ("vizwiz", {"spoil": without("question")}, ["val.json", "[3]", "'question' is missing"]),
    ("vizwiz", {"spoil": changed("answerable", 2)}, ["[3]", "'answerable' must be 0 or 1, not 2"]),
    ("vizwiz", {"spoil": twice}, ["[4]", "'image' holds 'VizWiz_val_00000001.jpg', which was there before, at [1]"]),
    ("vizwiz", {"spoil": changed("image", "/etc/passwd")}, ["[3]", "leads out of the data folder"]),
    ("textvqa", {"spoil": without("answers")}, ["TextVQA_0.5.1_val.json", "data[3]", "'answers' is missing"]),
    ("textvqa", {"spoil": changed("image_id", None)}, ["data[3]", "'image_id' must be a number or a text, not None"]),
    ("textvqa", {"spoil": changed("question_id", True)}, ["data[3]", "'question_id' must be a whole number, not True"]),
    ("docvqa", {"spoil": without("image")}, ["val_v1.0_withQT.json", "data[3]", "'image' is missing"]),
    ("docvqa", {"spoil": changed("answers", ["a", 3])}, ["data[3]", "'answers[1]' must be a text or hold an 'answer', not 3"]),
    ("docvqa", {"spoil": changed("question_types", "form")}, ["data[3]", "'question_types' must be a list of texts, not 'form'"]),
    ("docvqa", {"spoil": changed("image", "../../secret.png")}, ["data[3]", "leads out of the data folder"]),
    ("jsonl", {"spoil": without("question")}, ["questions.jsonl", "line 4", "'question' is missing"]),
    ("jsonl", {"spoil": changed("id", "q0")}, ["line 4", "'id' holds 'q0', which was there before, at line 1"]),
    ("jsonl", {"spoil": changed("image", "../x.png")}, ["line 4", "leads out of the data folder"]),
    ("jsonl", {"spoil": lambda rows: rows.__setitem__(3, "{half")}, ["line 4 is not JSON"]),
    ("jsonl", {"spoil": lambda rows: rows.__setitem__(3, "[1]")}, ["line 4 must be an object, not [1]"]),
    ("jsonl", {"spoil": without("answers")}, ["4 of 5 questions have reference answers"]),
]


@pytest.mark.parametrize(("kind", "how", "words"), MALFORMED, ids=[f"{kind}-{number}" for number, (kind, _, _) in enumerate(MALFORMED)])
def test_a_malformed_row_is_named_with_file_index_and_field(tmp_path: Path, kind: str, how: dict[str, Any], words: list[str]) -> None:
    place = make.MAKERS[kind](tmp_path, **how)
    with pytest.raises(DataError) as error:
        get_task(f"{kind}:{place}")
    message = str(error.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["vqav2", "gqa", "vizwiz", "textvqa", "docvqa"])
def test_unknown_fields_are_kept_and_mean_nothing(tmp_path: Path, kind: str) -> None:
    place = make.MAKERS[kind](tmp_path, spoil=changed("colour", ["red"]))
    sample = get_task(f"{kind}:{place}").items[3]
    assert sample.meta["extra"] == {"colour": ["red"]}
    assert "extra" not in get_task(f"{kind}:{place}").items[2].meta


@pytest.mark.parametrize(
    ("kind", "write", "split", "first"),
    [
        ("vqav2", lambda root: make.coco(root, "v2_", "test2015", truth=False), "test", {"question_id": 1000, "answer": "a0."}),
        ("vqav2", lambda root: make.coco(root, "v2_", "test-dev2015", truth=False), "test-dev", {"question_id": 1000, "answer": "a0."}),
        ("gqa", lambda root: make.gqa(root, "test_all", truth=False), "test_all", {"questionId": "20070", "prediction": "a0."}),
        ("vizwiz", lambda root: make.vizwiz(root, "test", truth=False), "test", {"image": "VizWiz_test_00000000.jpg", "answer": "a0."}),
        ("textvqa", lambda root: make.textvqa(root, "test", truth=False), "test", {"question_id": 34602, "answer": "a0."}),
        ("docvqa", lambda root: make.docvqa(root, "test", truth=False), "test", {"questionId": 49153, "answer": "a0."}),
    ],
)
def test_splits_without_public_answers(tmp_path: Path, kind: str, write: Callable[[Path], Path], split: str, first: Any) -> None:
    from evals.tasks.submissions import submission_rows
    from tests.unit.evals.tasks.test_vqa_runs import records_of

    task = get_task(f"{kind}:{write(tmp_path)}:{split}")
    assert not task.scored
    assert task.metrics == ()
    assert task.describe()["scorers"] == {}
    assert task.describe()["submission"] == kind
    rows = submission_rows(kind, records_of(task))
    assert rows[0] == first
    assert len(rows) == 5


def test_okvqa_has_no_test_split(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split of okvqa called 'test'"):
        get_task(f"okvqa:{make.okvqa(tmp_path)}", split="test")


def test_the_four_ways_to_name_a_split(tmp_path: Path) -> None:
    root = make.coco(tmp_path, "v2_", "train2014")
    ways: list[tuple[str, dict[str, Any]]] = [
        (f"vqav2:{root}:train", {}), (f"vqav2:{root}", {"split": "train"}),
        ("vqav2:train", {"data": root}), ("vqav2", {"data": root, "split": "train2014"}),
    ]  # fmt: skip
    tasks = [get_task(name, **options) for name, options in ways]
    assert {task.name for task in tasks} == {"vqav2:train"}
    assert len({task.data_fingerprint() for task in tasks}) == 1


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("vqav2", {}, UsageError, "vqav2 needs its data"),
        ("vqav2:ROOT:vall", {}, UsageError, "no split of vqav2 called 'vall'"),
        ("vqav2:ROOT:train", {"split": "val"}, UsageError, "another one"),
        ("vqav2:ROOT", {"data": "x"}, UsageError, "says itself where the data are"),
        ("vqav2:ROOT", {"classnames": ["a"]}, UsageError, "takes no class names"),
        ("vqav2:ROOT", {"promt": "qwen"}, UsageError, "no option of vqav2 called 'promt'"),
        ("vqav2:ROOT", {"prompt": "qwem"}, UsageError, "no prompt of vqav2 called 'qwem'"),
        ("vqav2:ROOT", {"max_new_tokens": 0}, UsageError, "a number from 1, not 0"),
        ("vqav2:ROOT", {"scorers": "vqa_offical"}, UsageError, "there is no scorer called 'vqa_offical'"),
        ("vqav2:ROOT", {"scorers": "gqa_exact"}, DataError, "gqa_exact@1 needs one reference answer, not 10"),
        ("vqav2:ROOT:train", {}, DataNotFound, "there is no v2_OpenEnded_mscoco_train2014_questions.json in it"),
        ("vqav2:ROOT/nowhere", {}, DataNotFound, "there is no folder"),
        ("vqav2:ROOT", {"images": "ROOT/empty"}, DataNotFound, "are not there: there is no COCO_val2014_000000000042.jpg"),
        ("jsonl:ROOT/none.jsonl", {}, DataNotFound, "there is no file"),
        ("jsonl:ROOT/empty.jsonl", {}, DataError, "holds no questions"),
        ("jsonl:ROOT/empty.jsonl", {"split": "val"}, UsageError, "has no splits"),
        ("vqa2:ROOT", {}, UsageError, "did you mean"),
    ],
)
def test_what_a_user_can_get_wrong(tmp_path: Path, name: str, options: dict[str, Any], error: type[PermafrostError], words: str) -> None:
    root = make.vqav2(tmp_path)
    (root / "empty").mkdir()
    (root / "empty.jsonl").write_text("\n")
    options = {key: value.replace("ROOT", str(root)) if isinstance(value, str) else value for key, value in options.items()}
    with pytest.raises(error) as raised:
        get_task(name.replace("ROOT", str(root)), **options)
    assert words in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize("folder", ["images/val2014", "Images/mscoco/val2014", "coco/val2014", "elsewhere"])
def test_images_are_found_where_downloads_put_them(tmp_path: Path, folder: str) -> None:
    root = make.vqav2(tmp_path)
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    (root / "val2014").rename(root / folder)
    options = {"images": str(root / "elsewhere")} if folder == "elsewhere" else {}
    if folder == "elsewhere":
        (root / folder).rename(root / "val2014")
        (root / folder).mkdir()
        (root / "val2014").rename(root / folder / "val2014")
    task = get_task(f"vqav2:{root}", **options)
    assert task.items[0].image.load().size == (8, 6)


def test_a_linked_image_folder_is_a_folder(tmp_path: Path) -> None:
    root = make.vqav2(tmp_path / "data")
    (root / "val2014").rename(tmp_path / "coco")
    (root / "val2014").symlink_to(tmp_path / "coco")
    assert get_task(f"vqav2:{root}").items[0].image.load().size == (8, 6)


def test_a_missing_image_is_one_failed_question_and_not_the_end(tmp_path: Path) -> None:
    root = make.vqav2(tmp_path)
    (root / "val2014" / "COCO_val2014_000000000043.jpg").unlink()
    task = get_task(f"vqav2:{root}")
    assert task.items[0].image.load().size == (8, 6)
    with pytest.raises(DataNotFound, match="000000000043"):
        task.items[2].image.load()


def test_images_do_not_leave_the_folder_through_a_link(tmp_path: Path) -> None:
    root = make.vqav2(tmp_path / "data")
    make.picture(tmp_path / "secret.jpg")
    image = root / "val2014" / "COCO_val2014_000000000043.jpg"
    image.unlink()
    image.symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match=r"questions\[2\]: the path .* leads out of the data folder through a symlink"):
        get_task(f"vqav2:{root}")


def test_words_of_an_ocr_system_go_into_the_prompt_when_asked_for(tmp_path: Path) -> None:
    task = get_task(f"textvqa:{make.textvqa(tmp_path)}", prompt="short-ocr")
    assert task.items[1].meta["prompt"] == "How many?\nReference OCR token: STOP, no1" + SHORT
    assert task.describe()["prompt"]["ocr"] == "\nReference OCR token: "
    (tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json").write_text('{"data": []}')
    with pytest.raises(DataError, match=r"data\[0\]: the file of OCR words has no entry for image_id '00a0'"):
        get_task(f"textvqa:{tmp_path}", prompt="short-ocr")


def test_prompts_of_ones_own_and_their_place_in_the_fingerprint(tmp_path: Path) -> None:
    root = make.vqav2(tmp_path)
    usual, own = get_task(f"vqav2:{root}"), get_task(f"vqav2:{root}", pre_prompt="Q: ", post_prompt=" A:", max_new_tokens=5)
    assert own.items[1].meta["prompt"] == "Q: How many? A:"
    assert own.describe()["prompt"] == {
        "name": "vqav2", "variant": "own", "version": 1, "pre": "Q: ", "question": "as-is", "ocr": None, "post": " A:",
    }  # fmt: skip
    assert own.max_new_tokens == 5
    assert own.data_fingerprint() == usual.data_fingerprint()


def test_the_fingerprint_sees_another_answer_and_another_image(tmp_path: Path) -> None:
    prints = set()
    for number, change in enumerate((make.nothing, changed("answers", make.ten("z")))):
        root = make.coco(tmp_path / str(number), "v2_", "val2014", spoil_truth=change)
        prints.add(get_task(f"vqav2:{root}").data_fingerprint())
    make.picture(tmp_path / "0" / "val2014" / "COCO_val2014_000000000043.jpg", 255)
    (tmp_path / "0" / "val2014" / "COCO_val2014_000000000044.jpg").write_bytes(b"other")
    prints.add(get_task(f"vqav2:{tmp_path / '0'}").data_fingerprint())
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("count", "scorers"), [(10, ("vqa_normalised", "vqa_official")), (1, ("gqa_exact", "anls")), (3, ("anls", "anls_strict"))]
)
def test_questions_of_ones_own_get_the_scorers_that_fit(tmp_path: Path, count: int, scorers: tuple[str, ...]) -> None:
    def fewer(rows: list[Any]) -> None:
        for row in rows:
            row["answers"] = row["answers"][:count]

    task = get_task(f"jsonl:{make.jsonl(tmp_path, spoil=fewer)}")
    assert task.metrics == scorers
    assert [get_scorer(name).full_name for name in task.scorers] == [f"{name}@1" for name in scorers]


def test_one_answer_and_line_numbers_as_ids(tmp_path: Path) -> None:
    make.picture(tmp_path / "a.png")
    lines = ('{"question": "What?", "image": "a.png", "answer": "x"}', "", '{"question": "Who?", "image": "a.png", "answer": ""}')
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    task = get_task(f"jsonl:{tmp_path / 'q.jsonl'}")
    assert [(sample.id, sample.meta["answers"]) for sample in task.items] == [("1", ["x"]), ("3", [""])]
