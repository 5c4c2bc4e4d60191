"""What random questions have come to: whether they asked enough of everything to prove anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.agreement.generate import kind_of
from tests.agreement.kinds import KINDS, SILENT


class Tally:
    """Counts verdicts and the kinds of rules that decided. An allow by no rule at all is the least
    interesting answer and is not counted."""

    def __init__(self) -> None:
        self.verdicts = Counter[str]()
        self.kinds = Counter[str]()

    def add(self, verdict: str, rules: Iterable[str]) -> None:
        kinds = {kind_of(rule) for rule in rules}
        if kinds or verdict != "allow":
            self.verdicts[verdict] += 1
            self.kinds.update(kinds)

    def lacks(self, verdict: str, rules: Iterable[str]) -> bool:
        """Would this question make the whole more even?"""
        total = self.verdicts.total() + 1
        kinds = {kind_of(rule) for rule in rules}
        if not kinds:
            return False
        return self.verdicts[verdict] * 3 < total or any(self.kinds[kind] * 40 < total for kind in kinds)

    def lacking(self) -> list[str]:
        """Kinds that have decided too seldom so far."""
        total = self.verdicts.total()
        return sorted(k for k in KINDS.keys() - SILENT if self.kinds[k] * 90 < total)

    def check(self) -> None:
        """Allow, deny and steer at least a fifth each, every kind of rule at least one in a hundred."""
        total = self.verdicts.total()
        assert all(self.verdicts[v] * 5 >= total for v in ("allow", "deny", "steer")), self
        assert all(self.kinds[kind] * 100 >= total for kind in KINDS.keys() - SILENT), self

    def __str__(self) -> str:
        return f"{self.verdicts.total():,} questions {dict(self.verdicts)}, decided by {dict(self.kinds)}"
