"""Holds the network namespace of a MooseFS (moosefs.py) and removes everything of it at the end.

    unshare --net python3 moosefs_keeper.py FOLDER

The end is the end of standard input: the test has closed it, or is no more. Signals are not taken for it, so that an
interrupt from a terminal finds the filesystem there until the test is through with it.
"""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import sys
import time

# MooseFS takes no loopback address. This one is on the namespace's own loopback device and nowhere else.
ADDRESS = "10.77.0.1"
LIBC = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2


def bring_up_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags, set_address, up = 0x8914, 0x8916, 0x1  # SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP
        fcntl.ioctl(any_socket, flags, struct.pack("16sH14x", b"lo", up))
        address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(ADDRESS))
        fcntl.ioctl(any_socket, set_address, struct.pack("16s16s", b"lo:1", address))


def inhabitants(namespace):
    """Who else is in this network namespace."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and int(entry) != os.getpid() and os.readlink(f"/proc/{entry}/ns/net") == namespace:
                found.append(int(entry))
    return found


def clean_up(folder, namespace):
    """Takes the mount away from whoever uses it, ends all processes of the namespace and removes the folder."""
    mount = folder / "mount"
    while LIBC.umount2(os.fsencode(mount), MNT_DETACH) == 0:
        pass

    def all_gone():
        for pid in inhabitants(namespace):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return not inhabitants(namespace)

    while not all_gone():
        time.sleep(0.005)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(mount)  # which no mount survives: what is on one is not for removal
    shutil.rmtree(folder)


def main(folder):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    bring_up_loopback()
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"ready\n")
    while os.read(0, 1):
        pass
    clean_up(folder, os.readlink("/proc/self/ns/net"))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
