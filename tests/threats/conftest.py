"""The node in a box of `tests/kernel`, for threats that need real packets."""

from tests.kernel.conftest import box, node

__all__ = ["box", "node"]
