"""The command line that runs a program inside a pod: its network namespace, its cgroup, its host name, a
mount namespace of its own with the pod's files below /etc. Containers, exec probes and `sluice exec` start
alike; every step is an exec, so the process that was started is the program itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

#: $1 cgroup.procs, $2 the pod's files, $3 working directory, then the program.
_SCRIPT = """
echo $$ > "$1" || exit 125
for file in hostname hosts resolv.conf; do
    [ ! -e /etc/$file ] || mount --bind "$2/$file" /etc/$file || exit 125
done
cat "$2/hostname" > /proc/sys/kernel/hostname || exit 125
cd "$3" || exit 126
shift 3
exec "$@"
"""


def launch_command(
    netns: str, cgroup: Path, files: Path, argv: Sequence[str], working_directory: str = "/"
) -> list[str]:
    """The argv to execute. Exit status 125: the pod is not usable, 126 and 127 as in a shell."""
    return [
        *("nsenter", f"--net={netns}", "--"),
        *("unshare", "--uts", "--mount", "--propagation", "private", "--"),
        *("sh", "-c", _SCRIPT, "sh", str(cgroup / "cgroup.procs"), str(files), working_directory),
        *argv,
    ]
