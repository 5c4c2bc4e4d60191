"""What the running kernel offers to our programs, tried with libbpf's own probes and by loading the
programs once. Nothing stays loaded, nothing is attached."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

#: enum bpf_prog_type, enum bpf_map_type and enum bpf_func_id of the kernel's UAPI.
PROGRAM_TYPES = {
    "socket address hooks (connect, sendmsg, getpeername)": 18,
    "socket operations": 13,
    "getsockopt hook": 25,
    "socket look-up": 30,
    "traffic control": 3,
}
MAP_TYPES = {"LPM trie": 11, "socket hash": 18, "socket storage": 24, "ring buffer": 27}
_SCHED_CLS, _REDIRECT_PEER = 3, 155

#: Kernel functions by which a feature without a probe is known.
TCX, SOCK_DESTROY = b"tcx_link_attach", b"bpf_sock_destroy"


class Libbpf:
    """libbpf.so.1. Raises OSError when it is not installed."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
        self._lib.bpf_object__open_file.restype = ctypes.c_void_p
        self._lib.libbpf_version_string.restype = ctypes.c_char_p
        # Its complaints are for a log; what failed is told by us.
        self._lib.libbpf_set_print.restype = ctypes.c_void_p
        self._lib.libbpf_set_print(None)

    @property
    def version(self) -> str:
        text: bytes = self._lib.libbpf_version_string()
        return text.decode()

    def has_program_type(self, number: int) -> bool:
        return bool(self._lib.libbpf_probe_bpf_prog_type(number, None) == 1)

    def has_map_type(self, number: int) -> bool:
        return bool(self._lib.libbpf_probe_bpf_map_type(number, None) == 1)

    def has_redirect_peer(self) -> bool:
        return bool(self._lib.libbpf_probe_bpf_helper(_SCHED_CLS, _REDIRECT_PEER, None) == 1)

    def load_error(self, object_file: Path) -> str:
        """Load a file's programs and maps and drop them; why it failed, or ""."""
        handle = self._lib.bpf_object__open_file(os.fsencode(object_file), None)
        if not handle:
            return f"cannot be read: {os.strerror(ctypes.get_errno())}"
        error = self._lib.bpf_object__load(ctypes.c_void_p(handle))
        self._lib.bpf_object__close(ctypes.c_void_p(handle))
        return os.strerror(-error) if error else ""


def kernel_functions(btf: Path, wanted: tuple[bytes, ...]) -> set[bytes]:
    """Which of these functions the kernel's type information names."""
    with btf.open("rb") as file:
        data = file.read()
    return {name for name in wanted if b"\0" + name + b"\0" in data}
