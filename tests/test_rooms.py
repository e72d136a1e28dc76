"""A room imports only rooms above it (DESIGN.md, docs/architecture.md), wherever in a file the import stands."""

from __future__ import annotations

import ast
from pathlib import Path

import fastsam_batch

PACKAGE = Path(fastsam_batch.__file__).parent
# From the ground up; what shares a line may import each other.
ROOMS = [
    "errors",
    "ranges words",
    "outage",
    "read_each",
    "storage signatures",
    "masks",
    "damage images",
    "decoder",
    "sources",
    "models",
    "corpus",
    "isolate threads stages",
    "mask_queue embed_queue stored unit",
    "config resources metrics ray_cluster",
    "pipeline",
    "run reembed",
    "search",
    "export",
    "evaluate",
    "web",
    "cli",
    "__main__",
]
HEIGHT = {room: height for height, rooms in enumerate(ROOMS) for room in rooms.split()}
# What a corpus answers by way of search, imported where it is asked for.
KNOWN = {("corpus/read.py", "search")}


def room_of(module: str) -> str | None:
    """`fastsam_batch.cli_search` is in `cli`; None outside the package."""
    parts = module.split(".")
    if parts[0] != "fastsam_batch" or len(parts) < 2:
        return None
    return "cli" if parts[1].startswith("cli") else parts[1]


def imported(tree: ast.AST) -> set[str]:
    """Modules of the package that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "fastsam_batch":
            modules |= {f"fastsam_batch.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return modules


def test_every_room_is_known() -> None:
    rooms = {
        room_of(f"fastsam_batch.{path.stem}") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()
    }
    assert rooms - {"__init__", "__pycache__"} == HEIGHT.keys()


def test_no_room_imports_one_below_it() -> None:
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        room = room_of(".".join(["fastsam_batch", *inside.with_suffix("").parts]))
        for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
            other = room_of(module)
            if room in HEIGHT and other in HEIGHT and HEIGHT[other] > HEIGHT[room]:
                found.add((inside.as_posix(), other))
    assert found == KNOWN
