"""The only caller of bpf(2): loads and adopts programs, fills tables, reads events, ends sockets."""

from agent.kernel.error import KernelError
from agent.kernel.kernel import Kernel
from agent.kernel.ring import EventRing
from agent.kernel.table import Table

__all__ = ["EventRing", "Kernel", "KernelError", "Table"]
