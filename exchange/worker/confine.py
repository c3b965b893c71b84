"""What a child gives up before it reads anything: network, files, privileges, core dumps, being traced.

On Linux a seccomp filter makes ``socket`` and ``socketpair`` fail with EPERM for good; it works without
root and inside containers. Where it cannot be set up, the child refuses to run (compute promise J10).
Source: seccomp(2), ``linux/filter.h``; ``threats.md`` G6, J10.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import resource
import signal
import socket
import struct

from exchange.errors import SandboxLost
from exchange.worker.fence import close_files

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO_EPERM = 0x00050000 | errno.EPERM
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
#: On x86-64 the same calls exist once more from here on (the x32 ABI).
_SECOND_TABLE = 0x40000000
_OFFSET_CALL, _OFFSET_ARCH = 0, 4

#: machine → (AUDIT_ARCH, numbers of socket, socketpair, ptrace, process_vm_readv, process_vm_writev,
#: io_uring_setup, pidfd_getfd)
_CALLS = {
    "x86_64": (0xC000003E, (41, 53, 101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, (198, 199, 117, 270, 271, 425, 438)),
}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def confine(*, cpu_seconds: int, memory_bytes: int) -> bool:
    """Give everything up, for good, and prove it; whether the file system is closed, too.

    Raises:
        SandboxLost: this system offers no such filter; nothing must be read then.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    if platform.system() != "Linux" or platform.machine() not in _CALLS:
        raise SandboxLost("this system cannot confine a job's child: run the worker on Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, _PR_SET_PDEATHSIG, int(signal.SIGKILL))
    _prctl(libc, _PR_SET_DUMPABLE, 0)
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    closed = close_files()
    arch, calls = _CALLS[platform.machine()]
    program = _filter(arch, calls)
    handed = _Program(len(program) // 8, program)
    _prctl(libc, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(handed))
    if not is_confined():
        raise SandboxLost("the filter was set and does not hold")
    return closed


def is_confined() -> bool:
    """Whether this process can open no socket."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return True
    return False


def _filter(arch: int, calls: tuple[int, ...]) -> bytes:
    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    steps = [
        step(_LOAD, _OFFSET_ARCH),
        step(_JUMP_EQUAL, arch, 1, 0),
        step(_RETURN, _KILL),
        step(_LOAD, _OFFSET_CALL),
        step(_JUMP_AT_LEAST, _SECOND_TABLE, len(calls) + 1, 0),
    ]
    for left, call in zip(range(len(calls), 0, -1), calls, strict=True):
        # On a match jump over the calls that are left and over "allow".
        steps.append(step(_JUMP_EQUAL, call, left, 0))
    steps += [step(_RETURN, _ALLOW), step(_RETURN, _ERRNO_EPERM)]
    return b"".join(steps)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: object) -> None:
    given = [*arguments, *([0] * (4 - len(arguments)))]
    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in given]
    if libc.prctl(option, *values) != 0:
        raise SandboxLost(f"prctl {option} failed with errno {ctypes.get_errno()}")
