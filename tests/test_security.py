"""docs/security.md: what the package never does, and that every test the page names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where pickles of the job's own processes are read, and the one place that reads a stranger's without running it.
PICKLES = {"isolate.py", "pipeline.py", "search/distributed.py", "models/checkpoint.py"}
FORBIDDEN = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "yaml.load", "marshal.loads"}


def calls(tree: ast.AST):
    """Every call in a module as (dotted name, node)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def modules():
    package = ROOT / "fastsam_batch"
    return {str(path.relative_to(package)): ast.parse(path.read_text()) for path in package.rglob("*.py")}


def test_nothing_evaluates_text_or_runs_a_shell():
    found = []
    for name, tree in modules().items():
        for called, node in calls(tree):
            shell = any(keyword.arg == "shell" for keyword in node.keywords)
            if called in FORBIDDEN or shell:
                found.append(f"{name}:{node.lineno} {called}")
    assert found == []


def test_pickles_are_read_in_these_places_only():
    readers = {
        name
        for name, tree in modules().items()
        for called, _ in calls(tree)
        if re.search(r"(^|\.)(pickle\.loads?|Unpickler|torch\.load|joblib\.load)$", called)
    }
    assert readers <= PICKLES


def test_programs_are_started_by_a_list_of_words():
    for name, tree in modules().items():
        for called, node in calls(tree):
            if called.startswith("subprocess."):
                assert not isinstance(node.args[0], (ast.Constant, ast.JoinedStr)), f"{name}:{node.lineno}"


def test_every_test_the_page_names_exists():
    page = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/.]+?)(?:::(\w+))?`", page)
    assert len(named) > 15
    for path, function in named:
        assert (ROOT / path).exists(), path
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(), function


def test_torch_is_one_that_runs_no_weights():
    """An embedder's file is read by open_clip with weights_only=True, which before 2.6 let it run (CVE-2025-32434)."""
    required = re.search(r'"torch>=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert required and tuple(int(part) for part in required.groups()) >= (2, 6)
