"""A rate limit service (envoy.service.ratelimit.v3) that counts what it is asked, in windows that do not end,
up to the limit that each question brings."""

from __future__ import annotations

from collections import Counter

import grpc
from envoy_data_plane.envoy.service.ratelimit.v3 import (
    RateLimitRequest,
    RateLimitResponse,
    RateLimitResponseCode,
)

from tests.xds.render.grpc_server import GrpcServer

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
#: Domain, then keys and values.
Asked = tuple[str, tuple[tuple[str, str], ...]]


class RateLimitService(GrpcServer):
    def __init__(self) -> None:
        self.counted: Counter[Asked] = Counter()
        self.limits: dict[Asked, tuple[int, str]] = {}
        super().__init__({SERVICE: {"ShouldRateLimit": grpc.unary_unary_rpc_method_handler(self._ask)}})

    def _ask(self, data: bytes, _: grpc.ServicerContext) -> bytes:
        request = RateLimitRequest.parse(data)
        over = False
        for descriptor in request.descriptors:
            asked = (request.domain, tuple((entry.key, entry.value) for entry in descriptor.entries))
            assert descriptor.limit is not None
            self.limits[asked] = (descriptor.limit.requests_per_unit, str(descriptor.limit.unit.name))
            self.counted[asked] += 1
            over = over or self.counted[asked] > descriptor.limit.requests_per_unit
        code = RateLimitResponseCode.OVER_LIMIT if over else RateLimitResponseCode.OK
        return bytes(RateLimitResponse(overall_code=code))
