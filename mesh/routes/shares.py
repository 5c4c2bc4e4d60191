"""Weights as small whole numbers: how often each of several ends stands in a look-up table."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

#: Parts that all together have at most, so that a table stays small; a share is then true to a percent.
MOST_PARTS = 200


def parts(weights: Sequence[Fraction]) -> list[int]:
    """The least whole numbers in these proportions, or near them if there were too many parts. Whatever has
    a weight keeps a part."""
    scale = lcm(*(weight.denominator for weight in weights)) if weights else 1
    whole = [int(weight * scale) for weight in weights]
    common = gcd(*whole) or 1
    whole = [number // common for number in whole]
    total = sum(whole)
    if total <= MOST_PARTS:
        return whole
    return [max(1, round(number * MOST_PARTS / total)) if number else 0 for number in whole]
