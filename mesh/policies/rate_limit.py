"""The reference semantics of RateLimit: which requests a limit counts (`mesh.model.rate_limit`).

It counts nothing itself. What is not HTTP is not counted, because where a limit applies nothing else passes
(rule 21).
"""

from __future__ import annotations

from mesh.model import Limit
from mesh.policies.authorization import text_matches
from mesh.request import Request
from mesh.routes.routing import value_fits


def counts(limit: Limit, request: Request) -> bool:
    """Does the request use up a part of the limit?"""
    path = request.path.partition("?")[0]
    return (
        (not limit.paths or any(text_matches(text, path) for text in limit.paths))
        and (not limit.methods or request.method in limit.methods)
        and all(value_fits(header, request.fields) for header in limit.headers)
    )
