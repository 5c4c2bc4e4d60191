"""Plain data as JSON or YAML for people and programs. Pure."""

from __future__ import annotations

import json
from typing import Any


def data_text(data: Any, form: str) -> str:
    """`form` is `json` or `yaml`. Without a final line break; keys keep their order."""
    if form == "json":
        return json.dumps(data, indent=2, ensure_ascii=False)
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(data, Dumper=dumper, sort_keys=False, width=110, allow_unicode=True)
    return text.rstrip("\n")
