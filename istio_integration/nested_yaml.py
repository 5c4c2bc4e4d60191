"""YAML that stands as text in an object: MeshConfig in a ConfigMap, an annotation of a Pod."""

from __future__ import annotations

from typing import Any

import yaml


def nested(text: Any) -> Any:
    """What it says. Raises ValueError with a line for people, whatever is wrong: PyYAML's constructors raise
    what they like for a value that does not fit its tag."""
    try:
        return yaml.safe_load(text)
    except Exception as error:
        first, _, _ = str(error).partition("\n")
        raise ValueError(first or type(error).__name__) from None
