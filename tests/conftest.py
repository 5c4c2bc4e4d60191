"""What all tests share: who may run them, and that nothing is skipped in silence.

A test of the data path needs root and says so with `@pytest.mark.root` or by where it lives. Without root
it is skipped with that reason on a developer's machine; with CI=true a skip is a failure, unless its reason
begins with "the kernel", which CI cannot mend.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from sluice.node import mount_bpffs
from tests.leftovers import remove_pins_of_the_dead

HERE = Path(__file__).parent
#: Folders in which every test makes network namespaces or loads programs.
ROOT_FOLDERS = ("kernel", "node", "threats", "demo")
CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# What a test left of gRPC waits in its destructor for threads that the child of a fork does not have: a
# collection in such a child would never end.
os.register_at_fork(after_in_child=gc.freeze)

# A script's background job ignores interrupts, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="ask the agreement tests a hundred times as much")
    parser.addoption("--golden", action="store_true", help="write the golden files anew instead of comparing")


def pytest_sessionstart() -> None:
    """Programs and maps are pinned in a bpffs, which a fresh machine has not mounted. What killed tests
    left there nobody else takes away."""
    if os.geteuid() == 0:
        mount_bpffs()
        remove_pins_of_the_dead()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs root by its folder, and refuses it where it cannot run."""
    for item in items:
        try:
            folder = item.path.relative_to(HERE).parts[0]
        except ValueError:
            continue
        if folder in ROOT_FOLDERS:
            item.add_marker(pytest.mark.root)
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root, for it makes network namespaces"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turns a skip that CI could mend into a failure that names the reason."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith("the kernel"):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI, where nothing that CI could provide may be missing: {reason}"
    return report


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written (`make golden`) rather than compared."""
    return bool(request.config.getoption("--golden"))


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether agreement is to be sought for hours (`make agreement-long`)."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return HERE.parent


@pytest.fixture
def short_grace() -> Iterator[None]:
    """Waiting for running programs is most of a change; with shorter waits there are more of them."""
    setting = Path("/sys/kernel/rcu_expedited")
    before = setting.read_text()
    try:
        setting.write_text("1")
    except OSError:
        yield  # where that is not ours to set it takes longer
        return
    yield
    setting.write_text(before)
