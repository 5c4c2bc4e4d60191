"""A thin binding to libbpf.so.1: file descriptors in, file descriptors out, KernelError on failure.

It knows the C ABI of the functions it names. It must not know our maps, programs or layout.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TypeVar

from agent.kernel.error import KernelError

#: enum bpf_attach_type, where this library's header is older than the kernel's.
CGROUP_SOCK_OPS = 3
CGROUP_INET4_CONNECT = 10
CGROUP_INET6_CONNECT = 11
CGROUP_UDP4_SENDMSG = 14
CGROUP_UDP6_SENDMSG = 15
CGROUP_UDP4_RECVMSG = 19
CGROUP_UDP6_RECVMSG = 20
CGROUP_GETSOCKOPT = 21
TRACE_ITER = 28
CGROUP_INET4_GETPEERNAME = 29
CGROUP_INET6_GETPEERNAME = 30
CGROUP_INET_SOCK_RELEASE = 34
SK_LOOKUP = 36
TCX_INGRESS = 46
TCX_EGRESS = 47

_HINTS = {
    errno.EPERM: "does this process have CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN?",
    errno.ENOMEM: "is the memory cgroup's limit reached?",
    errno.E2BIG: "the map is full",
    errno.ENOSPC: "the map is full",  # what a trie says
    errno.ENODEV: "is the network device gone?",
}


class MapInfo(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class LinkInfo(ctypes.Structure):
    """struct bpf_link_info; `target` is the cgroup's id, or in its low half the ifindex or the
    inode of the network namespace, and 0 when the target is gone."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("pad", c_uint32),
        ("target", c_uint64),
        ("rest", c_uint64 * 5),
    ]


class ProgInfo(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_ubyte * 8),
        ("rest", c_uint32 * 2),
        ("pointers", c_uint64 * 2),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", c_uint32),
        ("flags", c_uint32),
        ("netns", c_uint64 * 2),
        ("tail", c_uint64 * 11),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
        ("verified_insns", c_uint32),
        ("attach_btf", c_uint32 * 2),
    ]


class _BatchOpts(ctypes.Structure):
    _fields_ = [("sz", c_size_t), ("elem_flags", c_uint64), ("flags", c_uint64)]


class _TestRunOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


_LIBBPF_WARN = 0

_lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
_libc = ctypes.CDLL(None, use_errno=True)
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

for _name, _result, _arguments in (
    ("bpf_object__open_file", c_void_p, (c_char_p, c_void_p)),
    ("bpf_object__load", c_int, (c_void_p,)),
    ("bpf_object__close", None, (c_void_p,)),
    ("bpf_object__next_map", c_void_p, (c_void_p, c_void_p)),
    ("bpf_map__name", c_char_p, (c_void_p,)),
    ("bpf_map__set_pin_path", c_int, (c_void_p, c_char_p)),
    ("bpf_object__next_program", c_void_p, (c_void_p, c_void_p)),
    ("bpf_program__name", c_char_p, (c_void_p,)),
    ("bpf_program__fd", c_int, (c_void_p,)),
    ("bpf_obj_get", c_int, (c_char_p,)),
    ("bpf_obj_pin", c_int, (c_int, c_char_p)),
    ("bpf_obj_get_info_by_fd", c_int, (c_int, c_void_p, POINTER(c_uint32))),
    ("bpf_link_create", c_int, (c_int, c_int, c_int, c_void_p)),
    ("bpf_link_update", c_int, (c_int, c_int, c_void_p)),
    ("bpf_iter_create", c_int, (c_int,)),
    ("bpf_map_lookup_elem", c_int, (c_int, c_char_p, c_void_p)),
    ("bpf_map_update_elem", c_int, (c_int, c_char_p, c_char_p, c_uint64)),
    ("bpf_map_delete_elem", c_int, (c_int, c_char_p)),
    ("bpf_map_lookup_and_delete_elem", c_int, (c_int, c_char_p, c_void_p)),
    ("bpf_map_update_batch", c_int, (c_int, c_char_p, c_char_p, POINTER(c_uint32), c_void_p)),
    ("bpf_map_delete_batch", c_int, (c_int, c_char_p, POINTER(c_uint32), c_void_p)),
    (
        "bpf_map_lookup_batch",
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    ("bpf_prog_test_run_opts", c_int, (c_int, c_void_p)),
    ("libbpf_num_possible_cpus", c_int, ()),
    ("libbpf_set_print", c_void_p, (_PRINT,)),
):
    _function = getattr(_lib, _name)
    _function.restype = _result
    _function.argtypes = _arguments


def failure(action: str, object: str, hint: str = "") -> KernelError:
    """The error of the call just made by this thread."""
    number = ctypes.get_errno()
    return KernelError(action, object, hint or _HINTS.get(number, ""), number)


def checked(result: int, action: str, object: str, hint: str = "") -> int:
    if result < 0:
        raise failure(action, object, hint)
    return result


class ObjectFile:
    """An ELF object of programs and maps, open until `close`; loading verifies its programs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: list[str] = []
        self._print = _PRINT(self._keep)
        _lib.libbpf_set_print(self._print)
        self._object = _lib.bpf_object__open_file(os.fsencode(path), None)
        if not self._object:
            raise failure("open the BPF object", str(path), "build it with `make -C bpf`")

    def _keep(self, level: int, form: bytes, arguments: int) -> int:
        if level > _LIBBPF_WARN:
            return 0
        # The verifier's whole log is one message, and its end is what matters.
        text = ctypes.create_string_buffer(1 << 20)
        _libc.vsnprintf(text, c_size_t(len(text)), c_char_p(form), c_void_p(arguments))
        self._log.append(text.value.decode(errors="replace")[-4000:])
        return 0

    def pin_maps(self, directory: Path) -> list[str]:
        """Adopts each map pinned there under its name, and pins the others when loaded."""
        names = []
        map_ = _lib.bpf_object__next_map(self._object, None)
        while map_:
            name = _lib.bpf_map__name(map_).decode()
            if not name.startswith("sl_"):
                raise KernelError("load", name, "a map of ours starts with sl_; is it a global variable?")
            checked(_lib.bpf_map__set_pin_path(map_, os.fsencode(directory / name)), "pin", name)
            names.append(name)
            map_ = _lib.bpf_object__next_map(self._object, map_)
        return names

    def load(self) -> Iterator[tuple[str, int]]:
        """(name, file descriptor) of each program; the object owns the descriptors."""
        if _lib.bpf_object__load(self._object) < 0:
            number = ctypes.get_errno()
            said = "".join(line for line in self._log if "unpinned map" not in line)[-4000:]
            raise KernelError("load", str(self._path), f"the verifier and libbpf said:\n{said}", number)
        program = _lib.bpf_object__next_program(self._object, None)
        while program:
            yield _lib.bpf_program__name(program).decode(), _lib.bpf_program__fd(program)
            program = _lib.bpf_object__next_program(self._object, program)

    def close(self) -> None:
        _lib.bpf_object__close(self._object)
        _lib.libbpf_set_print(_PRINT())


def pinned(path: Path) -> int | None:
    """A new descriptor of what is pinned at `path`, None when nothing is."""
    fd: int = _lib.bpf_obj_get(os.fsencode(path))
    if fd < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    return checked(fd, "open the pin", str(path))


def pin(fd: int, path: Path) -> None:
    checked(_lib.bpf_obj_pin(fd, os.fsencode(path)), "pin", str(path), "is a BPF file system mounted there?")


_Info = TypeVar("_Info", bound=ctypes.Structure)


def info(fd: int, kind: type[_Info]) -> _Info:
    result = kind()
    size = c_uint32(ctypes.sizeof(result))
    outcome = _lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(result), ctypes.byref(size))
    checked(outcome, "read", kind.__name__)
    return result


def create_link(program: int, target: int, attach_type: int, object: str) -> int:
    """`target` is a cgroup's or namespace's descriptor, an ifindex for tcx, 0 for an iterator."""
    return checked(_lib.bpf_link_create(program, target, attach_type, None), "attach to", object)


def update_link(link: int, program: int, object: str) -> None:
    checked(_lib.bpf_link_update(link, program, None), "replace the program of", object)


def create_iterator(link: int) -> int:
    return checked(_lib.bpf_iter_create(link), "open the iterator", "iter/tcp")


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value (`size` bytes), None when the key is absent."""
    value = ctypes.create_string_buffer(size)
    if _lib.bpf_map_lookup_elem(fd, key, value) < 0:
        if ctypes.get_errno() == errno.ENOENT:
            return None
        raise failure("look up a key of", _name_of(fd))
    return value.raw


def take(fd: int, key: bytes, size: int) -> bytes | None:
    """The last value of an entry that is gone then, None when the key is absent."""
    value = ctypes.create_string_buffer(size)
    if _lib.bpf_map_lookup_and_delete_elem(fd, key, value) < 0:
        if ctypes.get_errno() == errno.ENOENT:
            return None
        raise failure("take a key of", _name_of(fd))
    return value.raw


def update(fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    checked(_lib.bpf_map_update_elem(fd, key, value, flags), "update", _name_of(fd))


def delete(fd: int, key: bytes) -> None:
    """Absent keys are not an error."""
    if _lib.bpf_map_delete_elem(fd, key) < 0 and ctypes.get_errno() != errno.ENOENT:
        raise failure("delete from", _name_of(fd))


def update_batch(fd: int, keys: bytes, values: bytes, count: int, elem_flags: int) -> None:
    opts = _BatchOpts(ctypes.sizeof(_BatchOpts), elem_flags, 0)
    number = c_uint32(count)
    result = _lib.bpf_map_update_batch(fd, keys, values, ctypes.byref(number), ctypes.byref(opts))
    checked(result, f"write entry {number.value} of {count} to", _name_of(fd))


def delete_batch(fd: int, keys: bytes, count: int) -> int:
    """How many were deleted; stops at the first absent key."""
    number = c_uint32(count)
    result = _lib.bpf_map_delete_batch(fd, keys, ctypes.byref(number), None)
    if result < 0 and ctypes.get_errno() != errno.ENOENT:
        raise failure("delete from", _name_of(fd))
    return number.value


def lookup_batches(fd: int, key_size: int, value_size: int, chunk: int) -> Iterator[tuple[bytes, bytes, int]]:
    """(keys, values, count) until the map's end; `chunk` must exceed its longest hash bucket."""
    token = ctypes.create_string_buffer(max(key_size, 8))
    keys = ctypes.create_string_buffer(key_size * chunk)
    values = ctypes.create_string_buffer(value_size * chunk)
    first, last = True, False
    while not last:
        number = c_uint32(chunk)
        start = None if first else token
        if _lib.bpf_map_lookup_batch(fd, start, token, keys, values, ctypes.byref(number), None) < 0:
            if ctypes.get_errno() != errno.ENOENT:
                raise failure("read all entries of", _name_of(fd))
            last = True
        if number.value:
            yield keys.raw[: key_size * number.value], values.raw[: value_size * number.value], number.value
        first = False


def run_program(program: int, packet: bytes, context: bytes) -> int:
    """BPF_PROG_TEST_RUN once: the program's return value."""
    return int(_test_run(program, packet, context, 1).retval)


def time_program(program: int, packet: bytes, context: bytes, repeat: int) -> int:
    """BPF_PROG_TEST_RUN: nanoseconds of one of `repeat` runs, on average."""
    return int(_test_run(program, packet, context, repeat).duration)


def _test_run(program: int, packet: bytes, context: bytes, repeat: int) -> _TestRunOpts:
    opts = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts), repeat=repeat)
    data = ctypes.create_string_buffer(packet, len(packet))
    ctx = ctypes.create_string_buffer(context, len(context))
    opts.data_in, opts.data_size_in = ctypes.addressof(data), len(packet)
    opts.ctx_in, opts.ctx_size_in = ctypes.addressof(ctx), len(context)
    checked(_lib.bpf_prog_test_run_opts(program, ctypes.byref(opts)), "run", "a program")
    return opts


def possible_cpus() -> int:
    return checked(_lib.libbpf_num_possible_cpus(), "count", "processors")


def _name_of(fd: int) -> str:
    name: bytes = info(fd, MapInfo).name
    return name.decode()
