"""RetryBudget: how many requests may be tried again at once, as a share of those that are on their way."""

from __future__ import annotations

from istio_integration.duration import duration_ms
from istio_integration.number import number
from mesh.dialects.reading import Fields, Reader
from mesh.model import RetryBudget

RETRY_BUDGET = Fields(("percent", "minRetryConcurrency", "budgetInterval"))


def retry_budget(reader: Reader) -> RetryBudget | None:
    if not reader.fields(RETRY_BUDGET).present:
        return None
    return RetryBudget(
        number(reader.at("percent"), 0, 100, 20),
        # 0 is the default, too: Istio cannot tell them apart.
        reader.at("minRetryConcurrency").integer(0, 2**32 - 1) or 3,
        duration_ms(reader.at("budgetInterval"), at_least=0),
    )
