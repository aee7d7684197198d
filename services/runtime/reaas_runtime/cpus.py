"""How many CPUs this process may use: the cgroup's quota, not the host's core count."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """CPUs granted by affinity and by the cgroup CPU quota (v2 and v1), at least 1.

    `root` is the root of the file system that holds `proc` and `sys`. Quotas hold for a whole
    subtree, so the smallest one on the way from the process's cgroup to the top counts.
    """
    granted = float(len(os.sched_getaffinity(0)))
    for directory in cgroup_directories(root, "cpu"):
        quota = _quota_v2(directory) or _quota_v1(directory)
        if quota is not None:
            granted = min(granted, quota)
    return max(1, math.floor(granted))


def cgroup_directories(root: Path, controller: str) -> Iterator[Path]:
    """Directories of the process's cgroup for `controller` and of all its parents, v2 and v1."""
    mount = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            mounts = [mount / controllers, mount / controller]
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        for base in mounts:
            yield from (base / part for part in (relative, *relative.parents))


def _quota_v2(directory: Path) -> float | None:
    fields = read_text(directory / "cpu.max").split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return float(fields[0]) / float(fields[1])


def _quota_v1(directory: Path) -> float | None:
    quota = read_text(directory / "cpu.cfs_quota_us").strip()
    period = read_text(directory / "cpu.cfs_period_us").strip()
    if not quota or not period or int(quota) <= 0:
        return None
    return float(quota) / float(period)


def read_text(path: Path) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
