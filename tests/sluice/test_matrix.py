"""A matrix as people see it: grid, table and picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from mesh.answers.groups import Group
from mesh.answers.matrix import Column, Matrix
from mesh.answers.reach import Access
from mesh.model import WorkloadName
from sluice.access_text import who
from sluice.matrix_grid import grid_of
from sluice.matrix_svg import svg
from sluice.matrix_table import table
from sluice.paint import coloured, plain

SVG = "{http://www.w3.org/2000/svg}"
KERNEL = Access("allow", "kernel", ("NetworkPolicy shop/p ingress[0]",))
DENIED = Access("deny", "kernel", ("NetworkPolicy shop/p",))
ROUTED = Access("allow", "envoy", (), ("HTTPRoute shop/r rules[0]",))
PARTLY = Access("partly", "envoy", ("CiliumNetworkPolicy shop/c ingress[0].toPorts[0]",))


def group(name: str, namespace: str = "shop") -> Group:
    return Group("workloads", f"{namespace}/{name}", (WorkloadName(namespace, name),))


def matrix_of(*lines: tuple[str, list[Access]], world: list[Access] | None = None) -> Matrix:
    """Each line a caller that is also a callee at TCP 80, and what it gets."""
    callers = [group(name) for name, _ in lines]
    cells = [found for _, found in lines]
    if world:
        callers.append(Group("world", "world"))
        cells.append(world)
    columns = [
        Column(
            callers[index], "TCP", 80, (f"{callers[index].name}:8080",), tuple(row[index] for row in cells)
        )
        for index in range(len(lines))
    ]
    return Matrix(tuple(callers), tuple(columns))


SMALL = matrix_of(("a", [KERNEL, DENIED]), ("b", [PARTLY, KERNEL]), world=[ROUTED, DENIED])


def test_a_small_table_shows_every_cell_and_says_what_the_letters_mean() -> None:
    assert table(grid_of(SMALL), 80, plain) == (
        "from    1  2\n"
        "shop/a  ·  x\n"
        "shop/b  R  ·\n"
        "world   E  x\n"
        "\n"
        "  1  shop/a TCP 80  (shop/a:8080)\n"
        "  2  shop/b TCP 80  (shop/b:8080)\n"
        "\n"
        "E allowed, Envoy routes   R Envoy judges each request   x denied   · itself"
    )


def test_colours_are_around_the_marks_only() -> None:
    text = table(grid_of(SMALL), 80, coloured)
    assert "\x1b[31mx\x1b[0m" in text
    assert re.sub(r"\x1b\[\d+m", "", text) == table(grid_of(SMALL), 80, plain)


def test_columns_that_do_not_fit_go_below() -> None:
    names = [f"p{number}" for number in range(9)]
    wide = matrix_of(*((name, [KERNEL] * 9) for name in names))
    lines = table(grid_of(wide), 24, plain).splitlines()
    heads = [line for line in lines if line.startswith("from")]
    assert heads == ["from     1  2  3  4  5", "from     6  7  8  9"]
    assert max(map(len, lines[:21])) <= 24


def test_lines_that_are_alike_can_be_folded_and_what_a_pod_gets_of_itself_parts_none() -> None:
    alike = matrix_of(*((name, [DENIED] * 5) for name in "abcde"), world=[DENIED] * 5)
    grid = grid_of(alike, fold=True)
    assert [row.names for row in grid.rows] == [("shop/a", "shop/b", "shop/c", "shop/d", "shop/e", "world")]
    assert [[cell.mark for cell in row] for row in grid.cells] == [["deny"]]
    assert grid.columns[0].label == "shop/a TCP 80, shop/b TCP 80 and 3 more"


def test_lines_that_differ_stay_apart() -> None:
    three = matrix_of(
        ("a", [KERNEL, DENIED, DENIED]), ("b", [DENIED, KERNEL, KERNEL]), ("c", [DENIED, DENIED, KERNEL])
    )
    grid = grid_of(three, fold=True)
    assert len(grid.rows) > 1
    unfolded = {
        (row.label, column.label): cell.mark
        for row, cells in zip(grid_of(three).rows, grid_of(three).cells, strict=True)
        for column, cell in zip(grid_of(three).columns, cells, strict=True)
    }
    for row, cells in zip(grid.rows, grid.cells, strict=True):
        for column, cell in zip(grid.columns, cells, strict=True):
            for name in row.names:
                for port in column.names:
                    assert unfolded[name, port] in (cell.mark, "self")


def test_a_mesh_without_ports_says_so() -> None:
    assert table(grid_of(Matrix((group("a"),), ())), 80, plain).startswith("no pod has a port")
    ElementTree.fromstring(svg(grid_of(Matrix((group("a"),), ())), "t"))


def test_the_picture_has_a_cell_with_its_rule_for_each_pair_and_needs_nothing_else() -> None:
    text = svg(grid_of(SMALL), "Who can reach whom")
    root = ElementTree.fromstring(text)
    titles = [title.text or "" for title in root.iter(f"{SVG}title")]
    assert len(titles) == 6
    assert "shop/b → shop/a TCP 80 (shop/a:8080)\nby request, envoy\nCiliumNetworkPolicy shop/c" in titles[2]
    assert "deny\nNetworkPolicy shop/p (default)" in titles[1]
    assert "http" not in text.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_kernel_envoy_and_denied_have_colours_and_shapes_of_their_own() -> None:
    root = ElementTree.fromstring(svg(grid_of(SMALL), "t"))
    marks = {symbol.get("id"): list(symbol) for symbol in root.iter(f"{SVG}symbol")}
    fills = {parts[0].get("fill") for parts in marks.values()}
    drawings = {ElementTree.tostring(parts[1]) if len(parts) > 1 else b"" for parts in marks.values()}
    assert marks.keys() == {"kernel", "envoy", "partly", "deny", "self"}
    assert len(fills) == len(drawings) == 5
    used = [use.get("href") for use in root.iter(f"{SVG}use")]
    assert used[-6:] == ["#self", "#deny", "#partly", "#self", "#envoy", "#deny"]


@pytest.mark.parametrize("count", [1, 6, 40, 100])
def test_nothing_of_the_picture_lies_outside_of_it(count: int) -> None:
    names = [f"workload-with-a-long-name-{number}" for number in range(count)]
    root = ElementTree.fromstring(svg(grid_of(matrix_of(*((n, [KERNEL] * count) for n in names))), "t"))
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for use in root.iter(f"{SVG}use"):
        x, y, wide, high = (float(use.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + wide <= width
        assert y >= 0 and y + high <= height


def test_names_cannot_break_the_picture() -> None:
    odd = Matrix((Group("world", '<&">\x1b'),), (Column(group("a"), "TCP", 1, ('"<',), (DENIED,)),))
    root = ElementTree.fromstring(svg(grid_of(odd), '<"&'))
    assert root.get("aria-label") == '<"&'
    assert any('<&">\N{REPLACEMENT CHARACTER}' in (title.text or "") for title in root.iter(f"{SVG}title"))


def test_who_reaches_a_port_is_told_those_that_are_let_in_first() -> None:
    text = who(Matrix(SMALL.callers, SMALL.columns[:1]), plain)
    assert [line for line in text.splitlines() if not line.startswith("    ")] == [
        "shop/a TCP 80  (Service shop/a:8080)",
        "  allow, kernel     shop/a",
        "  allow, envoy      world",
        "  by request, envoy shop/b",
    ]
    assert "routed by HTTPRoute shop/r rules[0]" in text
