from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.model import ObjectRef
from xds.documents import ApiObject, parse

HEAD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n"


def content(text: str) -> Any:
    (item,) = parse(text, "a.yaml").objects
    return json.loads(item.text)


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("yes", True),
        ("off", False),
        ("y", True),
        ('"y"', "y"),
        ("2001-01-01", "2001-01-01"),
        ("22:22", "22:22"),
        ("0777", 511),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000),
        ("08", 8),
        ("1.5", 1.5),
        ("~", None),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_read_as_kubernetes_reads_them(scalar: str, value: object) -> None:
    found = content(HEAD + f"spec: {{v: {scalar}}}")["spec"]
    assert found == {"v": value}
    assert type(found["v"]) is type(value)


def test_keys_become_text_as_in_json() -> None:
    assert content(HEAD + "spec: {on: 1, 80: 2, a: 3}")["spec"] == {"true": 1, "80": 2, "a": 3}


def test_equal_objects_have_equal_text_however_they_are_written() -> None:
    flow = parse('{"kind": "Pod", "metadata": {"name": "a"}, "apiVersion": "v1"}', "a.json").objects
    assert flow == parse(HEAD, "b.yaml").objects


def test_documents_and_lists_are_unfolded() -> None:
    text = (
        f"{HEAD}---\n---\nkind: List\napiVersion: v1\nitems:\n"
        "- {apiVersion: v1, kind: Service, metadata: {name: b, namespace: shop}}\n"
    )
    refs = [item.ref for item in parse(text, "a.yaml").objects]
    assert refs == [ObjectRef("Pod", "default", "a"), ObjectRef("Service", "shop", "b")]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (HEAD + "---\na: [1\nb: 2\n", "line 6", "did not find expected ',' or ']'"),
        (HEAD + "---\na: {}\n", "line 5", "apiVersion is missing"),
        (HEAD + "---\n- 1\n", "line 5", "is not an API object"),
        ("a: \x01", "line 1", "control characters"),
        ("[" * 100_000, "line 1", "nested deeper"),
        ("\n".join(" " * depth + "a:" for depth in range(3000)), "line 201", "nested deeper"),
        ("&a [*a]", "line 1", "Circular"),
        (HEAD + "spec: &a {b: *a}", "line 1", "Circular"),
        (HEAD + "spec: .nan", "line 1", "JSON"),
        (HEAD + "spec: !!timestamp 2001-01-01", "line 1", "JSON"),
        (HEAD + "spec: !!python/object:os.system x", "line 4", "could not determine a constructor"),
        (HEAD + "spec: " + "1" * 6000, "line 1", "4300 digits"),
        (HEAD + "spec: !!bool maybe", "line 1", "does not fit its tag"),
        (HEAD + "spec: !!int ''", "line 1", "does not fit its tag"),
        (HEAD + "spec: !!float ''", "line 1", "does not fit its tag"),
        (HEAD + "spec: !!timestamp x", "line 1", "does not fit its tag"),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_line(text: str, line: str, message: str) -> None:
    (problem,) = parse(text, "/etc/a.yaml").problems
    assert problem.object == ObjectRef("File", "", "/etc/a.yaml")
    assert problem.field == line
    assert message in problem.message


def test_aliases_that_multiply_are_refused_before_they_are_written_out() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    (problem,) = parse(bomb, "a.yaml").problems
    assert "multiply" in problem.message


@pytest.mark.parametrize(
    ("text", "line"), [('{\n"a": 1', "line 2"), ("[" * 100_000, "line 1"), ('{"a": "\\ud800"}', "line 1")]
)
def test_json_faults_have_their_line_too(text: str, line: str) -> None:
    documents = parse(text, "a.json")
    assert documents.objects == ()
    assert [problem.field for problem in documents.problems] == [line]


def test_a_broken_document_leaves_nothing_of_its_file_but_a_nameless_one_leaves_the_rest() -> None:
    assert parse(HEAD + "---\na: [", "a.yaml").objects == ()
    assert len(parse(HEAD + "---\nkind: Pod\n", "a.yaml").objects) == 1


def test_an_object_of_plain_values_is_checked_like_one_of_text() -> None:
    with pytest.raises(ValueError, match=r"metadata\.name"):
        ApiObject.of({"apiVersion": "v1", "kind": "Pod", "metadata": {}})
