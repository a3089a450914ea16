"""The machine that a measurement was taken on: without it a figure means nothing."""

import os
import platform
import re


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def _core_of(cpu):
    """Hardware threads of one physical core share this text."""
    return _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def physical_cores():
    """One hardware thread of each physical core that this process may use, in order."""
    seen = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        seen.setdefault(_core_of(cpu), cpu)
    return list(seen.values())


def fingerprint():
    cpuinfo = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    vectors = [name for name in ("avx2", "avx512f") if flags and name in flags.group(1).split()]
    return {
        "cpu": model.group(1) if model else platform.machine(),
        "vector_extensions": vectors,
        "physical_cores": len(physical_cores()),
        "memory_gib": round(int(memory.group(1)) / 2**20, 1) if memory else None,
        "kernel": platform.release(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "blas": os.path.realpath("/usr/lib/" + platform.machine() + "-linux-gnu/libblas.so.3"),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }


def describe(machine):
    return (f"{machine['cpu']}, {machine['physical_cores']} cores, kernel {machine['kernel']}, "
            f"torch {machine['torch']}, load average {machine['load_average_at_start']} at the start")
