from __future__ import annotations

import os
from pathlib import Path

import pytest
from reaas_runtime.cpus import available_cpus


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_no_cgroup_means_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == 64


def test_v2_quota(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}
    assert available_cpus(write(tmp_path, files)) == 2


def test_v2_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pods/mine\n",
        "sys/fs/cgroup/pods/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/pods/mine/cpu.max": "max 100000\n",
    }
    assert available_cpus(write(tmp_path, files)) == 3


def test_v1_quota(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/pod\n",
        "sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us": "400000\n",
        "sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us": "100000\n",
    }
    assert available_cpus(write(tmp_path, files)) == 4


def test_v1_without_quota_and_fractions_of_a_cpu(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "3:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert available_cpus(write(tmp_path, files)) == 64
    write(tmp_path, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "20000\n"})
    assert available_cpus(tmp_path) == 1
