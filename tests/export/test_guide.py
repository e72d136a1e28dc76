"""docs/prelabel.md: what it tells people to type works."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from corpus.builtin_corpus import as_if_builtin

from fastsam_batch.cli import _COMMANDS, main

GUIDE = (Path(__file__).parents[2] / "docs" / "prelabel.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every fastsam-batch command, in the order of the guide."""
    lines = "".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("fastsam-batch ")]


def test_every_command_is_understood() -> None:
    inline = re.findall(r"`fastsam-batch ([^`]+)`", GUIDE)
    for name, *arguments in [*commands(), *map(shlex.split, inline)]:
        parser = argparse.ArgumentParser()
        _COMMANDS[name][1](parser)
        parser.parse_args(arguments)
    assert [words[0] for words in commands()] == ["segment", "label", "export"]


def test_the_commands_behind_segmenting_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = as_if_builtin(str(tmp_path / "out" / "corpus"), tmp_path)
    (tmp_path / "classes.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    for words in commands()[1:]:
        began = time.perf_counter()
        assert main(words) == 0
        took = time.perf_counter() - began
    assert len(pq.read_table("out/labels.parquet")) == len(made.masks)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(summary["labels"]) == ["cup", "spoon", "motorcycle", "person"]
    assert json.loads(Path("out/loss.json").read_text()) == summary["loss"]
    assert summary["seconds"] > 0.5 * took  # texts of the classes and their encoder included, as those of `label`
    tasks = json.loads(Path("out/prelabels/tasks-00001.json").read_text())
    assert len(tasks) == sum(row["status"] == "ok" for row in made.images)
    assert Path("out/prelabels/label_config.xml").is_file()
    assert len(list(Path("out/prelabels/images").iterdir())) == len(tasks)
