from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.leftovers import own_name, remove_pins_of_the_dead


def ended_process() -> int:
    """The id of a process that was."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_pins_of_a_process_that_is_no_more_go_and_all_others_stay(tmp_path: Path) -> None:
    dead, parent = ended_process(), os.getppid()
    gone = [f"sluice-test-{dead}-01ab9f", f"sluice-town-{dead}-01ab9f"]
    stay = [
        own_name("test", "01ab9f"),
        own_name("town", "01ab9f"),
        f"sluice-test-{parent}-01ab9f",
        # Other people's: a mesh, what follows another pattern, what is not ours at all.
        f"sluice-{dead}-01ab9f",
        f"sluice-shop-{dead}-01ab9f",
        f"sluice-test-{dead}",
        f"sluice-test-{dead}-01ab9f-web",
        f"sluice-test-0{dead}-01ab9f",
        f"agt-test-{dead}-01ab9f",
    ]
    for name in (*gone, *stay):
        (tmp_path / name / "maps").mkdir(parents=True)
    remove_pins_of_the_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)
    assert (tmp_path / stay[0] / "maps").is_dir()
