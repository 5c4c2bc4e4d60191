"""placeholder"""

from mesh.model import NamePattern


def matches(pattern: NamePattern, name: str) -> bool:
    return pattern.text == name
