"""What a running process costs, read from /proc."""

import os
import pathlib

TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")


def cpu_secs(pid):
    """User and system time so far."""
    # The second field, the program's name, may hold spaces: count from its end.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SEC


def rss_kib(pid):
    """Resident memory, without huge pages."""
    return status_kib(pid, "VmRSS")


def peak_rss_kib(pid):
    """The most that `rss_kib` ever was."""
    return status_kib(pid, "VmHWM")


def status_kib(pid, name):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))
