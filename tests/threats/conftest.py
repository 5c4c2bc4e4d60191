"""The node in a box of `tests/kernel`, for threats that need real packets, and the bare programs of
`tests/agreement`, for those that need many verdicts."""

from tests.agreement.test_kernel import kernel
from tests.kernel.conftest import box, node

__all__ = ["box", "kernel", "node"]
