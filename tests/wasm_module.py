"""WebAssembly modules for tests, written by hand: Proxy-Wasm filters (ABI 0.2.1) of a few instructions.

https://webassembly.github.io/spec/core/binary: a module is sections; numbers are LEB128; lists have their
length in front. All values here are i32.
"""

from __future__ import annotations

#: Where in the module's memory its texts stand, and where Envoy puts what it hands over.
_NAME, _VALUE, _SIZE, _HANDED = 0, 256, 1024, 4096
_I32, _FUNCTION, _MEMORY = b"\x7f", b"\x00", b"\x02"
#: Instructions.
_CALL, _DROP, _END, _LOAD, _STORE = b"\x10", b"\x1a", b"\x0b", b"\x28\x02\x00", b"\x36\x02\x00"
_ADD_HEADER, _RESPOND, _GET_BUFFER = b"\x00", b"\x01", b"\x02"
_REQUEST_HEADERS, _PLUGIN_CONFIGURATION = 0, 7
_CONTINUE, _PAUSE = 0, 1


def adds(name: str, value: str) -> bytes:
    """Adds a header to each request."""
    return _module(name, value, _push(_REQUEST_HEADERS, _NAME, len(name), _VALUE, len(value)) + _added())


def adds_configuration(name: str) -> bytes:
    """Adds a header whose value is the plugin's configuration."""
    size = b"\x20\x01"  # what it is called with, as its second argument
    get = _push(_PLUGIN_CONFIGURATION, 0) + size + _push(_SIZE - 4, _SIZE) + _CALL + _GET_BUFFER + _DROP
    add = _push(_REQUEST_HEADERS, _NAME, len(name), _HANDED) + _push(_SIZE) + _LOAD + _added()
    return _module(name, "", add, get + _push(1))


def answers(status: int) -> bytes:
    """Answers each request itself."""
    respond = _push(status, 0, 0, 0, 0, 0, 0, -1) + _CALL + _RESPOND + _DROP
    return _module("", "", respond + _push(_PAUSE))


def refuses_its_configuration() -> bytes:
    return _module("", "", _push(_CONTINUE), _push(0))


def padded(module: bytes, size: int) -> bytes:
    """The same with a custom section of that many bytes, which nobody reads."""
    return module + _section(0, _text("padding") + bytes(size))


def _added() -> bytes:
    return _CALL + _ADD_HEADER + _DROP + _push(_CONTINUE)


def _module(name: str, value: str, on_request: bytes, on_configure: bytes = b"\x41\x01") -> bytes:
    functions = {
        "proxy_abi_version_0_2_1": (0, 0, b""),
        "proxy_on_memory_allocate": (1, 1, _push(_HANDED)),
        "proxy_on_context_create": (2, 0, b""),
        "proxy_on_vm_start": (2, 1, _push(1)),
        "proxy_on_configure": (2, 1, on_configure),
        "proxy_on_request_headers": (3, 1, on_request),
    }
    imports = {"proxy_add_header_map_value": 5, "proxy_send_local_response": 8, "proxy_get_buffer_bytes": 5}
    types = [_type(count, 1) for count in imports.values()]
    types += [_type(takes, gives) for takes, gives, _ in functions.values()]
    first = len(imports)
    exports = [_text("memory") + _MEMORY + _number(0)]
    exports += [_text(own) + _FUNCTION + _number(first + index) for index, own in enumerate(functions)]
    bodies = [_list([]) + body + _END for _, _, body in functions.values()]
    brought = [_text("env") + _text(own) + _FUNCTION + _number(at) for at, own in enumerate(imports)]
    texts = [(_NAME, name), (_VALUE, value)]
    return b"\0asm\1\0\0\0" + b"".join(
        (
            _section(1, _list(types)),
            _section(2, _list(brought)),
            _section(3, _list([_number(first + index) for index in range(len(functions))])),
            _section(5, _list([b"\x00" + _number(1)])),
            _section(7, _list(exports)),
            _section(10, _list([_number(len(body)) + body for body in bodies])),
            _section(11, _list([b"\x00" + _push(at) + _END + _text(text) for at, text in texts])),
        )
    )


def _type(takes: int, gives: int) -> bytes:
    return b"\x60" + _list([_I32] * takes) + _list([_I32] * gives)


def _push(*values: int) -> bytes:
    return b"".join(b"\x41" + _signed(value) for value in values)


def _section(number: int, content: bytes) -> bytes:
    return bytes((number,)) + _number(len(content)) + content


def _list(items: list[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _text(text: str) -> bytes:
    return _number(len(text)) + text.encode()


def _number(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes((value & 127 | 128,))
        value >>= 7
    return found + bytes((value,))


def _signed(value: int) -> bytes:
    found = b""
    while not -64 <= value < 64:
        found += bytes((value & 127 | 128,))
        value >>= 7
    return found + bytes((value & 127,))
