"""The path that is judged is the path that is forwarded: what Envoy makes of `:path` before any rule.

Mirrors Istio's four modes (MeshConfig, pathNormalization): BASE is Envoy's `normalize_path` (Chromium's
canonicalisation: dot segments, also written %2e, and backslashes; unreserved characters unescaped),
MERGE_SLASHES also `merge_slashes`, and DECODE_AND_MERGE_SLASHES unescapes slashes and backslashes
before either. Tests hold it against the real Envoy.
"""

from __future__ import annotations

import string

from mesh.model import PathNormalization

_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-_~.")
_HEX = frozenset(string.hexdigits)
_ESCAPED = frozenset(' "<>`{}|^')
_SLASHES = {"%2f": "/", "%2F": "/", "%5c": "\\", "%5C": "\\"}


def normalise(path: str, mode: PathNormalization = "MERGE_SLASHES") -> str | None:
    """The path with its query as rules see it; None if Envoy refuses the request with 400."""
    head, mark, query = path.partition("?")
    if not head.startswith("/") or "#" in path:
        return None
    if mode == "NONE":
        return path
    if "%00" in head or not path.isascii():
        return None
    if mode == "DECODE_AND_MERGE_SLASHES":
        for escape, plain in _SLASHES.items():
            head = head.replace(escape, plain)
    joined = _canonical(head)
    if mode != "BASE":
        while "//" in joined:
            joined = joined.replace("//", "/")
    return joined + mark + query


def _canonical(head: str) -> str:
    segments: list[str] = []
    pieces = [_unescaped(piece) for piece in head[1:].replace("\\", "/").split("/")]
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        if piece == "..":
            if segments:
                segments.pop()
            if last:
                segments.append("")
        elif piece == ".":
            if last:
                segments.append("")
        else:
            segments.append(piece)
    return "/" + "/".join(segments)


def _unescaped(piece: str) -> str:
    out: list[str] = []
    index = 0
    while index < len(piece):
        char = piece[index]
        code = piece[index + 1 : index + 3]
        if char == "%" and len(code) == 2 and set(code) <= _HEX:
            plain = chr(int(code, 16))
            out.append(plain if plain in _UNRESERVED else f"%{code}")
            index += 3
            continue
        out.append(f"%{ord(char):02X}" if char in _ESCAPED else char)
        index += 1
    return "".join(out)
