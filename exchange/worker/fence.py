"""Which files a child may still reach: the interpreter's and its libraries' to read, and nothing else.

Landlock, where the kernel has it (Linux 5.13 and later): no file of the worker's user can be read, none
anywhere can be made, changed or run. Where the kernel has none, :func:`close_files` says so, and what is
left is that no file can grow by a byte (``RLIMIT_FSIZE``, set in ``confine``).
Source: landlock(7), ``linux/landlock.h``; ``threats.md`` G6, J10.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from exchange.errors import SandboxLost

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_IOCTL = 1 << 15
#: Every right that a version of Landlock knows about files: version → bits.
_HANDLED = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}

_OURS = ("anonymize", "compute", "exchange", "ledger")
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/proc/self", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/stat", "/dev/urandom", "/dev/zero",
    # What a GPU's driver asks about itself.
    "/proc/devices", "/proc/driver/nvidia", "/proc/modules", "/sys/bus/pci", "/sys/devices",
    "/sys/module",
)  # fmt: skip
#: Devices that are opened for writing: nowhere, and a GPU where there is one.
_DEVICES = ("null", "nvidia*")


def close_files() -> bool:
    """Close the file system for good; False where this kernel cannot.

    Our packages are imported first: to find one, the folder that they lie in would have to be read,
    and in a checkout that is where the data folder lies too.

    Raises:
        SandboxLost: the kernel offers it and it failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = int(libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)))
    if version < 1:
        return False
    handled = _HANDLED[max(known for known in _HANDLED if known <= version)]
    for name in _OURS:
        importlib.import_module(name)
    attributes = struct.pack("=Q", handled)
    ruleset = libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    if ruleset < 0:
        raise SandboxLost(f"landlock_create_ruleset failed with errno {ctypes.get_errno()}")
    for path in sorted(set(_readable())):
        _allow(libc, ruleset, path, (_READ_FILE | _READ_DIR) & handled)
    for pattern in _DEVICES:
        for device in Path("/dev").glob(pattern):
            rights = _READ_FILE | _WRITE_FILE | _IOCTL
            _allow(libc, ruleset, str(device), rights & handled)
    if libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint(0)) != 0:
        raise SandboxLost(f"landlock_restrict_self failed with errno {ctypes.get_errno()}")
    os.close(ruleset)
    return True


def _readable() -> Iterator[str]:
    yield from _SYSTEM
    yield from (sys.prefix, sys.base_prefix, sys.exec_prefix)
    yield from sysconfig.get_paths().values()
    yield from (path for path in sys.path if Path(path).name.endswith("-packages"))
    for name in _OURS:
        spec = importlib.util.find_spec(name)
        yield from (spec.submodule_search_locations or () if spec is not None else ())


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there needs no permission.
        return
    try:
        if not Path(path).is_dir():
            rights &= ~_READ_DIR
        rule = struct.pack("=Qi", rights, opened)
        if libc.syscall(_ADD, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, 0) != 0:
            raise SandboxLost(f"landlock_add_rule failed with errno {ctypes.get_errno()}")
    finally:
        os.close(opened)
