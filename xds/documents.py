"""Text to API objects: YAML or JSON, several documents a file, `List`s unfolded, errors by line.

Scalars are read as Kubernetes reads them (YAML 1.1 with `yes` and `on` as booleans, but neither
dates nor base 60), and every object gets its canonical JSON, by which it is compared and stored.
Knows nothing of kinds: what an object means is for the dialects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any

import yaml

from mesh.dialects import ref_of
from mesh.model import ObjectRef, Problem

#: Levels of nesting that a YAML document may have.
_DEPTH = 200

#: Nodes that a YAML document may have once its aliases are written out.
_NODES = 2_000_000


@dataclass(frozen=True, slots=True)
class ApiObject:
    """One API object as it was written. `text` is its canonical JSON; equal texts, equal objects."""

    ref: ObjectRef
    content: Mapping[str, Any] = field(compare=False, repr=False)
    text: str

    @property
    def digest(self) -> str:
        return digest_of(self.text.encode())

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ApiObject:
        """Raises ValueError when `content` cannot name an object or holds what JSON cannot."""
        text = canonical(content)
        plain = json.loads(text)
        if fault := _fault(plain):
            raise ValueError(fault)
        return cls(ref_of(plain), plain, text)


@dataclass(frozen=True, slots=True)
class Documents:
    """What a text holds. With `problems` it is incomplete: an object that is missing here may
    still be meant."""

    objects: tuple[ApiObject, ...] = ()
    problems: tuple[Problem, ...] = ()


def digest_of(data: bytes) -> str:
    """32 hex digits that stand for the content."""
    return blake2b(data, digest_size=16).hexdigest()


def canonical(content: Mapping[str, Any]) -> str:
    """JSON with sorted keys. Raises ValueError for what JSON cannot hold."""
    try:
        try:
            text = _dump(content)
        except TypeError:
            # Keys of mixed types (`on: x` beside `a: y`) have no order until they are strings.
            text = _dump(json.loads(json.dumps(content, allow_nan=False)))
        text.encode()  # half a surrogate pair is no text
        return text
    except TypeError as error:
        raise ValueError(f"has a value that JSON cannot hold ({error})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def parse(text: str, origin: str) -> Documents:
    """The objects in `text`; `origin` names it in Problems, as `File <origin>`."""
    source = ObjectRef("File", "", origin)
    objects: list[ApiObject] = []
    problems: list[Problem] = []
    try:
        for line, content in _documents(text, is_json=origin.endswith(".json")):
            for place, item in _unfold(content):
                try:
                    objects.append(ApiObject.of(item))
                except ValueError as error:
                    problems.append(Problem(source, f"line {line}{place}", str(error)))
    except _Malformed as error:
        # Nothing of it counts: where one document is broken the borders of the others are a guess.
        return Documents(problems=(Problem(source, f"line {error.line}", error.message),))
    return Documents(tuple(objects), tuple(problems))


class _Malformed(Exception):
    def __init__(self, line: int, message: str) -> None:
        self.line, self.message = line, message
        super().__init__(message)


def _documents(text: str, is_json: bool) -> Iterator[tuple[int, Any]]:
    if is_json or text.startswith("{"):
        try:
            yield 1, json.loads(text)
            return
        except RecursionError:
            raise _Malformed(1, "is nested too deeply") from None
        except json.JSONDecodeError as error:
            if is_json:
                raise _Malformed(error.lineno, f"is not JSON: {error.msg}") from None
        except ValueError as error:  # an integer of 5,000 digits
            raise _Malformed(1, f"is not JSON: {error}") from None
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        try:
            while loader.check_node() and (node := loader.get_node()) is not None:
                if "*" in text and _weight(node, {}) > _NODES:
                    raise _Malformed(_line(node.start_mark), "has aliases that multiply without end")
                content = _constructed(loader, node)
                if content is not None:
                    yield _line(node.start_mark), content
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        # What ends too early is found a line behind the last one.
        line = min(_line(mark), text.count("\n") + 1)
        raise _Malformed(line, f"is not YAML: {said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Malformed(line, f"is not YAML: {error.reason}") from None
    except RecursionError:
        raise _Malformed(1, "is nested too deeply") from None
    except ValueError as error:
        raise _Malformed(1, f"is not YAML: {error}") from None


def _constructed(loader: _Loader, node: yaml.Node) -> Any:
    """A tag that a user writes calls a constructor for text that it was not made for."""
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise
    except Exception as error:
        why = f"a value does not fit its tag ({type(error).__name__}: {error})"
        raise _Malformed(_line(node.start_mark), f"is not YAML: {why}") from None


def _line(mark: Any) -> int:
    return mark.line + 1 if mark is not None else 1


def _refuse_depth(text: str) -> None:
    """libyaml's binding composes by C recursion and takes the process down with a deep document."""
    # A level costs a bracket, or at least half a column of block structure: without either in
    # plenty there is no depth, and the common text is spared a second parse.
    brackets = text.count("[") + text.count("{")
    if brackets < _DEPTH and max(map(len, text.splitlines()), default=0) < _DEPTH // 2:
        return
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH:
                raise _Malformed(_line(event.start_mark), f"is nested deeper than {_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _weight(node: yaml.Node, known: dict[int, int]) -> int:
    """How many nodes there are with every alias written out."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 1  # what contains itself is refused by `canonical`
        parts = chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_weight(part, known) for part in parts)
    return known[id(node)]


def _unfold(content: Any) -> Iterator[tuple[str, Any]]:
    """The items of a `List`, anything else as it is."""
    if isinstance(content, dict) and str(content.get("kind", "")).endswith("List"):
        items = content.get("items")
        if isinstance(items, list):
            for index, item in enumerate(items):
                yield f", items[{index}]", item
            return
    yield "", content


def _fault(content: Any) -> str:
    if not isinstance(content, dict):
        return "is not an API object: a mapping with apiVersion, kind and metadata is wanted"
    for key in ("apiVersion", "kind"):
        if not isinstance(content.get(key), str) or not content[key]:
            return f"{key} is missing or no text"
    metadata = content.get("metadata")
    if not isinstance(metadata, dict):
        return "metadata is missing or no mapping"
    if not isinstance(metadata.get("name"), str) or not metadata["name"]:
        return "metadata.name is missing or no text"
    if not isinstance(metadata.get("namespace", ""), str):
        return "metadata.namespace is no text"
    return ""


def _dump(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class _Loader(yaml.CSafeLoader):
    """Scalars as in sigs.k8s.io/yaml (go-yaml 2)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012
    bool_values = {**yaml.CSafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012


def _integral(loader: _Loader, node: yaml.ScalarNode) -> float | int:
    value: float = loader.construct_yaml_float(node)
    return int(value) if value.is_integer() else value


for _tag, _first, _pattern in (
    ("null", ["~", "n", "N", ""], r"~|null|Null|NULL|"),
    ("bool", "yYnN", r"y|Y|yes|Yes|YES|n|N|no|No|NO"),
    ("bool", "tTfFoO", r"true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    ("int", "-+0123456789", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)"),
    ("float", "-+.0123456789", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"),
    ("float", "-+.", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    ("merge", "<", r"<<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", _integral)
