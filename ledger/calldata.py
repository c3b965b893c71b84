"""Call data of our contracts' functions, packed by hand (Solidity ABI, contract ABI specification)."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.interface import GrantItem, WithdrawItem


def word(value: int | bytes) -> bytes:
    """One ABI word: a number, or an address or the like, right-aligned."""
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def pack_items(items: Sequence[GrantItem | WithdrawItem]) -> bytes:
    """ABI encoding of ``Item[]`` as the only argument."""
    return (
        word(32)
        + word(len(items))
        + b"".join(
            word(item.consent_key) + item.commitment + word(item.until_day) + item.signature
            for item in items
        )
    )


def pack(*arguments: int | bytes | tuple[bytes] | list[bytes]) -> bytes:
    """ABI encoding: numbers and addresses as words, ``(signature,)`` bytes, a list ``bytes[]``."""
    head, tail = b"", b""
    offset = 32 * len(arguments)
    for argument in arguments:
        if isinstance(argument, int | bytes):
            head += word(argument)
            continue
        head += word(offset + len(tail))
        tail += _pack_bytes(argument[0]) if isinstance(argument, tuple) else _pack_list(argument)
    return head + tail


def _pack_bytes(value: bytes) -> bytes:
    return word(len(value)) + value + bytes(-len(value) % 32)


def _pack_list(values: Sequence[bytes]) -> bytes:
    packed = [_pack_bytes(value) for value in values]
    offset, offsets = 32 * len(packed), b""
    for part in packed:
        offsets += word(offset)
        offset += len(part)
    return word(len(packed)) + offsets + b"".join(packed)
