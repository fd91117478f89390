"""What processes use: memory and CPU of a whole tree, read from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_S = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """root and all processes below it."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return found


def pss_mib(root: int) -> float:
    """Memory of the tree in MiB, a page that n processes share counted as 1/n in each."""
    return sum(memory_of(pid) for pid in tree(root))


def memory_of(pid: int) -> float:
    """PSS of one process in MiB; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    return 0.0


def cpu_s(root: int) -> dict[int, float]:
    """Seconds of CPU that each process of the tree has used since its start."""
    return {pid: seconds for pid in tree(root) if (seconds := _cpu_of(pid)) is not None}


def _cpu_of(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def label(pid: int) -> str:
    """What a process is, in a few words: its output's name is not known here, so its command line and threads are."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:60]
        threads = [path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return f"{command} ({len(threads)} threads)"
