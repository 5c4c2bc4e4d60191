from __future__ import annotations

from pathlib import Path

from xds.generation import Generations


def test_numbers_grow_only_with_content_also_across_processes(tmp_path: Path) -> None:
    generations = Generations(tmp_path)
    assert generations.settle({"a": "1", "b": "1"}) == {"a", "b"}
    assert generations.settle({"a": "1", "b": "1"}) == set()
    assert generations.settle({"a": "2", "b": "1"}) == {"a"}
    for same in (generations, Generations(tmp_path)):
        assert same.number == 2
        assert {node: stamp.number for node, stamp in same.nodes.items()} == {"a": 2, "b": 1}
    again = Generations(tmp_path)
    assert again.settle({"a": "2"}) == set()
    assert again.settle({"a": "1"}) == {"a"}
    assert again.number == 3


def test_a_damaged_file_does_not_stop_the_mesh(tmp_path: Path) -> None:
    (tmp_path / "generation.json").write_text("{")
    assert Generations(tmp_path).settle({"a": "1"}) == {"a"}
