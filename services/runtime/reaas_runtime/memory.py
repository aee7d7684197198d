"""How much memory this process may use: the cgroup's limit, not the host's memory."""

from __future__ import annotations

import os
from pathlib import Path

from reaas_runtime.cpus import cgroup_directories, read_text


def available_memory(root: Path = Path("/")) -> int:
    """Bytes granted by the cgroup (v2 and v1), at most those of the machine.

    Limits hold for a whole subtree, so the smallest one on the way to the top counts.
    """
    granted = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for directory in cgroup_directories(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(directory / name).strip()
            if text.isdigit():
                granted = min(granted, int(text))
    return granted
