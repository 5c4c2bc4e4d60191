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
    if not head.startswith("/") or "#" in path or not (path.isascii() and path.isprintable()):
        return None
    if mode == "NONE":
        return path
    if "%00" in head:
        return None
    if mode == "DECODE_AND_MERGE_SLASHES":
        for escape, plain in _SLASHES.items():
            head = head.replace(escape, plain)
    joined = _canonical(head)
    if mode != "BASE":
        joined = _merged(joined)
    return joined + mark + query


def _canonical(head: str) -> str:
    segments: list[str] = []
    pieces = head[1:].replace("\\", "/").split("/")
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        # Parameters of a dot segment go with it.
        plain = piece.partition(";")[0] if piece.startswith((".;", "..;")) else _unescaped(piece)
        if plain == "..":
            if segments:
                segments.pop()
            if last:
                segments.append("")
        elif plain == ".":
            if last:
                segments.append("")
        else:
            segments.append(plain)
    return "/" + "/".join(segments)


def _merged(path: str) -> str:
    segments = [segment for segment in path.split("/") if segment]
    end = "/" if path.endswith("/") and path != "/" else ""
    return "/" + "/".join(segments) + end


def _unescaped(piece: str) -> str:
    """Escapes of unreserved characters as the characters, and some characters as escapes."""
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
    for place, char in enumerate(out):
        # One that escapes nothing must not begin to, because of what follows it now.
        following = "".join(out[place + 1 : place + 3])[:2]
        if char == "%" and len(following) == 2 and set(following) <= _HEX:
            out[place] = "%25"
    return "".join(out)
