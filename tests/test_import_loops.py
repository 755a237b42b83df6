"""No module imports itself by way of others, in the rooms that keep this so far."""

from __future__ import annotations

import grimp
import pytest


@pytest.mark.parametrize("room", ["io", "particles", "simulate"])
def test_no_module_imports_itself_by_way_of_others(room: str) -> None:
    graph = grimp.build_graph("kinesphere")
    modules = graph.find_descendants(f"kinesphere.{room}")
    assert modules
    for module in sorted(modules):
        for imported in graph.find_modules_directly_imported_by(module) & modules:
            chain = graph.find_shortest_chain(importer=imported, imported=module)
            assert chain is None, f"{module} -> {' -> '.join(chain or ())}"
