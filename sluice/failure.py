"""The world's errors, as people see them: one line that names the action, the object and a hint."""

from __future__ import annotations


class Failure(Exception):
    """Something outside the program does not allow what was asked. `str()` is the line to print."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}; {hint}" if hint else what)
