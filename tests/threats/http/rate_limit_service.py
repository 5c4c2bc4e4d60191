"""A rate limit service (envoy.service.ratelimit.v3) that counts what it is asked, in windows that do not end,
up to the limit that each question brings."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy_data_plane.envoy.service.ratelimit.v3 import (
    RateLimitRequest,
    RateLimitResponse,
    RateLimitResponseCode,
)

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
#: Domain, then keys and values.
Asked = tuple[str, tuple[tuple[str, str], ...]]


class RateLimitService:
    def __init__(self) -> None:
        self.counted: Counter[Asked] = Counter()
        self.limits: dict[Asked, tuple[int, str]] = {}
        self._server = grpc.server(ThreadPoolExecutor(2))
        handlers = {"ShouldRateLimit": grpc.unary_unary_rpc_method_handler(self._ask)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(grace=None).wait()

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
