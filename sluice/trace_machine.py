"""What bcc needs of this machine, found or said by name: a Python that has it, and kernel headers.

The programs take nothing of the kernel's structs from headers (`bpf/trace/socket.h`), so those of
another kernel do where the running one's are not to be had.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from sluice.failure import Failure

_SOURCES = Path("/usr/src")
_KCONFIG = "include/linux/kconfig.h"


class Lacking(Failure):
    """Something must be installed first; the message says what brings it."""


def python_with_bcc() -> str:
    """A Python that can import bcc. Raises Lacking."""
    for python in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        code = "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import bcc"
        if Path(python).exists() and not subprocess.run([python, "-c", code], capture_output=True).returncode:
            return python
    raise Lacking("bcc is not installed", f"apt-get install python3-bpfcc {_packages()}")


def headers() -> tuple[Path, ...]:
    """Folders of kernel headers, the first to be laid over the second; none where bcc finds them itself.
    Raises Lacking."""
    given = os.environ.get("BCC_KERNEL_SOURCE")
    if given:
        if not Path(given, _KCONFIG).exists():
            # Debian's package of one flavour holds only what differs; the rest is in `-common`.
            raise Lacking(
                f"BCC_KERNEL_SOURCE={given} has no {_KCONFIG}", "leave it unset, or merge the packages"
            )
        return ()
    modules = Path("/lib/modules", platform.release())
    if any((modules / name / _KCONFIG).exists() for name in ("build", "source")) or _in_kernel():
        return ()
    if found := installed(_SOURCES):
        return found
    missing = f"the headers of kernel {platform.release()} are not installed"
    raise Lacking(missing, f"apt-get install {_packages()}")


def installed(sources: Path) -> tuple[Path, ...]:
    """The newest headers that packages have put there: whole, or Debian's two halves of them."""
    halves = [folder for folder in sources.glob("linux-headers-*-common") if (folder / _KCONFIG).exists()]
    for folder in sorted(sources.glob("linux-headers-*"), key=_age, reverse=True):
        if folder.name.endswith(("-common", "-common-rt")):
            continue
        if (folder / _KCONFIG).exists():
            return (folder,)
        for common in halves:
            if folder.name.startswith(common.name.removesuffix("common")):
                return folder, common
    return ()


def _age(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", folder.name)]


def _in_kernel() -> bool:
    """Does the kernel carry its headers itself (CONFIG_IKHEADERS)?"""
    return Path("/sys/kernel/kheaders.tar.xz").exists()


def _packages() -> str:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    others = f"linux-headers-{machine} on Debian, linux-headers-generic on Ubuntu"
    return f"linux-headers-{platform.release()}, or if there is no such package {others}"
