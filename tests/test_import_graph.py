"""What imports what: one way, without loops, and at the top of the file."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kinesphere.methods.registry import METHOD_NAMES

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "kinesphere"
METHODS = set(METHOD_NAMES)
# Commands, methods, the programming interface and the faces of packages load their parts when they
# are asked for; the help page needs `ranks` and `runtime`, but not the PyTorch these work with.
MAY_IMPORT_LATE = re.compile(r"cli/|methods/|(api|ranks|runtime)\.py$|(\w+/)?__init__\.py$")
# What only a method may ask: which of them it is.
TYPE_QUESTION = re.compile(r"isinstance\([^)]*(RunConfig|SegmentsMotion|FieldMotion|ModesMotion)")


@cache
def texts() -> dict[str, str]:
    """Read every module, by its path in the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def loops(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """List the groups of modules that can all be reached from one another."""
    pairs = list(edges)
    names = sorted({name for pair in pairs for name in pair})
    number = {name: index for index, name in enumerate(names)}
    rows = [number[importer] for importer, _ in pairs]
    columns = [number[imported] for _, imported in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    count, label = connected_components(graph, directed=True, connection="strong")
    groups = [[names[index] for index in np.flatnonzero(label == k)] for k in range(count)]
    return [group for group in groups if len(group) > 1]


@cache
def imports() -> list[tuple[str, str]]:
    """List who imports whom in the package when it runs, inside functions too.

    Imports for annotations alone are none. The root is left out: anything may ask it for the
    version, and its `load` opens a run.
    """
    graph = grimp.build_graph("kinesphere", cache_dir=None, exclude_type_checking_imports=True)
    return [
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
        if "kinesphere" not in {importer, imported}
    ]


def late_imports(text: str) -> Iterator[tuple[int, str]]:
    """List the imports inside functions that nothing excuses: neither a comment, on the line or
    above the first of several, nor that the package may be missing.
    """
    lines = text.splitlines()
    excused = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Try):
            caught = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
            if any("ImportError" in kind or "ModuleNotFoundError" in kind for kind in caught):
                excused |= {line.lineno for line in node.body}
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            above = lines[node.lineno - 2].strip()
            beside = lines[node.lineno - 1].split("# noqa")[0]
            if above.startswith("#") or "#" in beside or node.lineno in excused:
                excused.add((node.end_lineno or node.lineno) + 1)
            else:
                yield node.lineno, lines[node.lineno - 1].strip()


def method_comparisons(text: str) -> Iterator[int]:
    """List the lines that compare something with the name of a motion model."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [leaf for side in (node.left, *node.comparators) for leaf in ast.walk(side)]
            words = {leaf.value for leaf in sides if isinstance(leaf, ast.Constant)}
            if words & METHODS:
                yield node.lineno


def test_no_module_imports_itself_in_a_circle() -> None:
    assert loops(imports()) == []


def test_every_package_has_its_layer() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layers = {name for line in contract["layers"] for name in re.findall(r"\w+", line)}
    here = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    here |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert here - layers == set()


def test_imports_stand_at_the_top_or_say_why_not() -> None:
    late = {
        path: list(late_imports(text))
        for path, text in texts().items()
        if not MAY_IMPORT_LATE.match(path)
    }
    assert {path: found for path, found in late.items() if found} == {}


def test_only_methods_ask_which_method_it_is() -> None:
    asking = {
        path: [*TYPE_QUESTION.findall(text), *method_comparisons(text)]
        for path, text in texts().items()
        if not path.startswith("methods/")
    }
    assert {path: found for path, found in asking.items() if found} == {}


def test_the_reader_sees_loops() -> None:
    edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")]
    assert loops(edges) == [["a", "b", "c"]]
    assert loops(edges[1:]) == []
    assert ("kinesphere.cli.main", "kinesphere.errors") in imports()


def test_the_reader_sees_late_imports_and_comparisons() -> None:
    text = """import a
def f():
    import b
    # it takes a second
    import c
    import d

    import e  # optional
    try:
        import f
    except ImportError:
        import g
    return run.method == "field" or x in ("y", "segments")
"""
    assert list(late_imports(text)) == [(3, "import b"), (12, "import g")]
    assert list(method_comparisons(text)) == [13, 13]
