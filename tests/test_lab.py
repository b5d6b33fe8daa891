"""The reader's copy of the lessons: nothing of theirs is lost, and the course's changes arrive."""

import json
from pathlib import Path

import pytest
from lab import fingerprint, update, without_news


def notebook(text: str, output: str = "") -> str:
    cell = {"cell_type": "code", "source": [text], "outputs": [output], "metadata": {}}
    return json.dumps({"cells": [cell], "metadata": {"version": output}, "nbformat": 4})


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    course, work = tmp_path / "notebooks", tmp_path / "work"
    (course / "solutions").mkdir(parents=True)
    for name in ("00_start.ipynb", "21_steps.ipynb", "solutions/21_steps.ipynb"):
        (course / name).write_text(notebook("first"))
    assert update(course, work) == []
    return course, work


def texts(folder: Path) -> dict[str, str]:
    paths = sorted(folder.rglob("*.ipynb"))
    return {
        p.relative_to(folder).as_posix(): json.loads(p.read_text())["cells"][0]["source"][0]
        for p in paths
    }


def test_the_copy_has_every_notebook_and_a_second_start_changes_nothing(folders):
    course, work = folders
    assert texts(work) == texts(course)
    times = {p: p.stat().st_mtime_ns for p in work.rglob("*")}
    assert update(course, work) == []
    assert {p: p.stat().st_mtime_ns for p in work.rglob("*")} == times


def test_what_was_only_run_is_replaced_by_a_newer_lesson(folders):
    course, work = folders
    (work / "21_steps.ipynb").write_text(notebook("first", "its outputs"))
    (course / "21_steps.ipynb").write_text(notebook("second"))
    assert update(course, work) == []
    assert texts(work)["21_steps.ipynb"] == "second"


def test_what_was_changed_stays_and_the_newer_lesson_lies_beside(folders):
    course, work = folders
    (work / "21_steps.ipynb").write_text(notebook("mine"))
    assert update(course, work) == [], "the course has nothing new"
    (course / "21_steps.ipynb").write_text(notebook("second"))
    (said,) = update(course, work)
    assert "21_steps.ipynb is yours" in said and "21_steps_new.ipynb" in said
    found = texts(work)
    assert (found["21_steps.ipynb"], found["21_steps_new.ipynb"]) == ("mine", "second")
    assert update(course, work) == [], "it is said once"
    (course / "21_steps.ipynb").write_text(notebook("third"))
    update(course, work)
    found = texts(work)
    assert (found["21_steps.ipynb"], found["21_steps_new.ipynb"]) == ("mine", "third")
    (work / "21_steps_new.ipynb").write_text(notebook("mine, too"))
    (course / "21_steps.ipynb").write_text(notebook("fourth"))
    update(course, work)
    found = texts(work)
    assert (found["21_steps_new.ipynb"], found["21_steps_new2.ipynb"]) == ("mine, too", "fourth")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": [1]}'])
def test_a_damaged_copy_or_record_loses_nothing(folders, damage):
    course, work = folders
    (work / "00_start.ipynb").write_text(notebook("mine"))
    (work / "21_steps.ipynb").write_text(damage)
    (work / ".course.json").write_text(damage)
    (course / "21_steps.ipynb").write_text(notebook("second"))
    update(course, work)
    assert (work / "21_steps.ipynb").read_text() == damage
    assert json.loads((work / "00_start.ipynb").read_text())["cells"][0]["source"] == ["mine"]
    assert fingerprint(work / "21_steps_new.ipynb") == fingerprint(course / "21_steps.ipynb")


def test_a_deleted_copy_comes_back(folders):
    course, work = folders
    (work / "00_start.ipynb").unlink()
    update(course, work)
    assert texts(work) == texts(course)


def test_settings_that_are_there_already_stay(tmp_path):
    path = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    without_news(tmp_path)
    assert json.loads(path.read_text())
    path.write_text("{}")
    without_news(tmp_path)
    assert path.read_text() == "{}"
