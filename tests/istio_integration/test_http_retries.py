from __future__ import annotations

from typing import Any

import pytest

from mesh.model import Retries
from tests.istio_integration.virtual_service import ROUTE, refused_rule, rule

ISTIOS_OWN = ("connect-failure", "refused-stream", "unavailable", "cancelled")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ({"attempts": 0}, Retries(0)),
        ({}, Retries(0)),
        ({"attempts": 3}, Retries(3, ISTIOS_OWN)),
        ({"attempts": 3, "retryOn": "503"}, Retries(3, (), (503,))),
        ({"attempts": 3, "retryOn": "reset, 503,5xx,429"}, Retries(3, ("reset", "5xx"), (429, 503))),
        ({"attempts": 1, "perTryTimeout": "2s"}, Retries(1, ISTIOS_OWN, per_try_ms=2000)),
        ({"attempts": 1, "backoff": "25ms"}, Retries(1, ISTIOS_OWN, backoff_ms=25)),
        ({"attempts": 1, "retryRemoteLocalities": True}, Retries(1, ISTIOS_OWN, other_localities=True)),
        ({"attempts": 1, "retryIgnorePreviousHosts": False}, Retries(1, ISTIOS_OWN, same_host=True)),
    ],
)
def test_retries(written: Any, means: Retries) -> None:
    assert rule(ROUTE | {"retries": written}).retries == means


def test_without_a_word_retries_are_the_meshs_and_there_is_no_timeout() -> None:
    assert (rule(ROUTE).retries, rule(ROUTE).timeout_ms) == (None, 0)


@pytest.mark.parametrize(
    ("written", "means"),
    [("10s", 10_000), ("1m30s", 90_000), ("0.5s", 500), ("1.5h", 5_400_000), ("1000us", 1)],
)
def test_durations_are_gos(written: str, means: int) -> None:
    assert rule(ROUTE | {"timeout": written}).timeout_ms == means


@pytest.mark.parametrize(
    ("http", "field", "says"),
    [
        (ROUTE | {"timeout": "0s"}, "timeout", "leave it out"),
        (ROUTE | {"timeout": "1d"}, "timeout", "is not a duration"),
        (ROUTE | {"timeout": "1500us"}, "timeout", "whole milliseconds"),
        (ROUTE | {"retries": {"attempts": -1}}, "retries.attempts", "must be 0"),
        (ROUTE | {"retries": {"perTryTimeout": "1s"}}, "retries.perTryTimeout", "needs attempts"),
        (
            ROUTE | {"retries": {"attempts": 1, "perTryTimeout": "0s"}},
            "retries.perTryTimeout",
            "at least 1ms",
        ),
        (ROUTE | {"retries": {"attempts": 1, "retryOn": "sometimes"}}, "retries.retryOn", "is no condition"),
    ],
)
def test_what_is_wrong_in_a_retry_or_timeout_is_named(http: Any, field: str, says: str) -> None:
    assert says in refused_rule(http)[field]
