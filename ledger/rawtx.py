"""Ethereum transactions as bytes: build and sign the one kind we send, read what a node is handed.

RLP (Ethereum yellow paper, appendix B), EIP-155 legacy transactions, and EIP-1559 and EIP-2930
envelopes (EIP-2718). We send legacy ones: they exist on every network, also where gas is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.commitment import keccak256
from ledger.errors import MalformedValue, SignatureInvalid
from ledger.signing import Key, recover_digest

MAX_RAW_SIZE: Final = 131_072
"""What public networks' pools take of one transaction (geth's txMaxSize)."""

Rlp = bytes | list["Rlp"]


@dataclass(frozen=True, slots=True)
class RawTransaction:
    """A signed transaction as read from its bytes. ``to`` is None for a creation."""

    raw: bytes
    hash: bytes
    sender: bytes
    chain_id: int | None
    nonce: int
    gas: int
    fee_per_gas: int
    to: bytes | None
    value: int
    data: bytes

    @property
    def intrinsic_gas(self) -> int:
        """Least gas limit that is mined: the larger of EIP-2028 (+3860) and EIP-7623's floor."""
        zeros = self.data.count(0)
        tokens = zeros + 4 * (len(self.data) - zeros)
        creation = 0 if self.to else 32_000 + 2 * ((len(self.data) + 31) // 32)
        return max(21_000 + 4 * tokens + creation, 21_000 + 10 * tokens)


def rlp_encode(item: Rlp) -> bytes:
    """Encode bytes or nested lists of bytes."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _header(len(item), 0x80) + item
    body = b"".join(rlp_encode(part) for part in item)
    return _header(len(body), 0xC0) + body


def _header(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    length = _int(size)
    return bytes([offset + 55 + len(length)]) + length


def _int(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def rlp_decode(data: bytes) -> Rlp:
    """Decode exactly one item. Raises MalformedValue for anything but the canonical form."""
    item, end = _decode(data, 0, 0)
    if end != len(data) or rlp_encode(item) != data:
        raise MalformedValue("the transaction is not canonical RLP")
    return item


def _decode(data: bytes, at: int, depth: int) -> tuple[Rlp, int]:
    if at >= len(data) or depth > 4:
        raise MalformedValue("the transaction is cut short or nested too deep")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    offset = 0x80 if first < 0xC0 else 0xC0
    size = first - offset
    at += 1
    if size > 55:
        width = size - 55
        size = int.from_bytes(data[at : at + width], "big")
        at += width
    end = at + size
    if end > len(data):
        raise MalformedValue("the transaction is cut short")
    if offset == 0x80:
        return data[at:end], end
    parts: list[Rlp] = []
    while at < end:
        part, at = _decode(data, at, depth + 1)
        parts.append(part)
    if at != end:
        raise MalformedValue("a list of the transaction overruns its length")
    return parts, end


def sign_transaction(
    key: Key, *, chain_id: int, nonce: int, gas_price: int, gas: int, to: bytes, data: bytes
) -> bytes:
    """Sign a legacy transaction without value (EIP-155); returns the raw bytes."""
    fields: list[Rlp] = [_int(nonce), _int(gas_price), _int(gas), to, b"", data]
    signed: list[Rlp] = [*fields, _int(chain_id), b"", b""]
    signature = key.sign_digest(keccak256(rlp_encode(signed)))
    vs = int.from_bytes(signature[32:], "big")
    v = chain_id * 2 + 35 + (vs >> 255)
    r = int.from_bytes(signature[:32], "big")
    return rlp_encode([*fields, _int(v), _int(r), _int(vs & (2**255 - 1))])


def transaction_hash(raw: bytes) -> bytes:
    """Keccak-256 of the raw bytes."""
    return keccak256(raw)


def parse_raw_transaction(raw: bytes) -> RawTransaction:
    """Read a signed transaction and recover its sender.

    Raises MalformedValue for unknown kinds, malformed fields and signatures that do not verify.
    """
    if not raw or len(raw) > MAX_RAW_SIZE:
        raise MalformedValue("a transaction has 1 to 131072 bytes")
    try:
        if raw[0] >= 0xC0:
            return _parse_legacy(raw)
        if raw[0] in (1, 2):
            return _parse_typed(raw)
    except SignatureInvalid as error:
        raise MalformedValue("the transaction's signature does not verify") from error
    raise MalformedValue("the transaction is of a kind that this node does not take")


def _fields(item: Rlp, count: int) -> list[Rlp]:
    if not isinstance(item, list) or len(item) != count:
        raise MalformedValue(f"the transaction does not have {count} fields")
    return item


def _bytes(item: Rlp) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedValue("a field of the transaction is a list")
    return item


def _uint(item: Rlp) -> int:
    raw = _bytes(item)
    if len(raw) > 32 or raw[:1] == b"\0":
        raise MalformedValue("a number of the transaction is malformed")
    return int.from_bytes(raw, "big")


def _to(item: Rlp) -> bytes | None:
    raw = _bytes(item)
    if len(raw) not in (0, 20):
        raise MalformedValue("the transaction's receiver is not an address")
    return raw or None


def _compact(parity: int, r: Rlp, s: Rlp) -> bytes:
    if parity not in (0, 1) or _uint(s) >> 255:
        raise MalformedValue("the transaction's signature is malformed")
    return _uint(r).to_bytes(32, "big") + (_uint(s) | parity << 255).to_bytes(32, "big")


def _parse_legacy(raw: bytes) -> RawTransaction:
    fields = _fields(rlp_decode(raw), 9)
    nonce, price, gas, to, value, data, v, r, s = fields
    mark = _uint(v)
    chain_id = None if mark in (27, 28) else (mark - 35) // 2
    if chain_id is None:
        unsigned, parity = fields[:6], mark - 27
    else:
        if chain_id < 1:
            raise MalformedValue("the transaction's signature is malformed")
        unsigned, parity = [*fields[:6], _int(chain_id), b"", b""], (mark - 35) % 2
    sender = recover_digest(keccak256(rlp_encode(unsigned)), _compact(parity, r, s))
    return RawTransaction(
        raw=raw,
        hash=keccak256(raw),
        sender=sender,
        chain_id=chain_id,
        nonce=_uint(nonce),
        gas=_uint(gas),
        fee_per_gas=_uint(price),
        to=_to(to),
        value=_uint(value),
        data=_bytes(data),
    )


def _parse_typed(raw: bytes) -> RawTransaction:
    # EIP-1559 (type 2) has two fees where EIP-2930 (type 1) has one gas price.
    fees = raw[0]
    fields = _fields(rlp_decode(raw[1:]), 10 + fees)
    chain_id, nonce = _uint(fields[0]), _uint(fields[1])
    gas, to, value, data = fields[2 + fees : 6 + fees]
    parity, r, s = fields[7 + fees :]
    digest = keccak256(raw[:1] + rlp_encode(fields[: 7 + fees]))
    return RawTransaction(
        raw=raw,
        hash=keccak256(raw),
        sender=recover_digest(digest, _compact(_uint(parity), r, s)),
        chain_id=chain_id,
        nonce=nonce,
        gas=_uint(gas),
        fee_per_gas=max(_uint(fee) for fee in fields[2 : 2 + fees]),
        to=_to(to),
        value=_uint(value),
        data=_bytes(data),
    )
