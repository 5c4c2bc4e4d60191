"""When a request is tried again (istio/api, HTTPRetry; Gateway API, HTTPRouteRetry) in Envoy's terms.

Where nobody says anything it is Istio's default for requests that are routed, and its default for those that
are passed on: only what never reached the application is sent again, such as a request on a connection that
it was just closing.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    RetryPolicyRetryPriority,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities.v3 import PreviousPrioritiesConfig

from mesh.model import Retries
from xds.render import naming
from xds.render.encoding import typed

_ROUTED = ("connect-failure", "refused-stream", "unavailable", "cancelled")
_PASSED = "reset-before-request"
_ATTEMPTS = 2
_HOST_ATTEMPTS = 5
_BY_STATUS = "retriable-status-codes"

#: What routes do unless they say otherwise.
DEFAULT = Retries(_ATTEMPTS)


@lru_cache(maxsize=1024)
def routed(retries: Retries, per_try_ms: int = 0) -> RetryPolicy:
    """Of a route; `per_try_ms` bounds each try where `retries` do not (0: not at all)."""
    if not retries.attempts:
        return RetryPolicy(num_retries=0)
    on = retries.on or (_ROUTED if not retries.statuses else ())
    conditions = [*on, *((_BY_STATUS,) if retries.statuses and _BY_STATUS not in on else ())]
    each = retries.per_try_ms or per_try_ms
    policy = RetryPolicy(
        retry_on=",".join(conditions),
        num_retries=retries.attempts,
        retriable_status_codes=list(retries.statuses),
        per_try_timeout=timedelta(milliseconds=each) if each else None,
    )
    if retries.backoff_ms:
        policy.retry_back_off = RetryPolicyRetryBackOff(
            base_interval=timedelta(milliseconds=retries.backoff_ms)
        )
    if retries.other_localities:
        policy.retry_priority = RetryPolicyRetryPriority(
            name=naming.PREVIOUS_PRIORITIES, typed_config=typed(PreviousPrioritiesConfig(update_frequency=2))
        )
    if not retries.same_host:
        policy.retry_host_predicate = [
            RetryPolicyRetryHostPredicate(
                name=naming.PREVIOUS_HOSTS, typed_config=typed(PreviousHostsPredicate())
            )
        ]
        policy.host_selection_retry_max_attempts = _HOST_ATTEMPTS
    return policy


def passed() -> RetryPolicy:
    """Of requests that nobody routes."""
    return RetryPolicy(retry_on=_PASSED, num_retries=_ATTEMPTS)
