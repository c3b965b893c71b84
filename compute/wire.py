r"""Requests and replies of encrypted inference on the wire. Pure: neither ciphertext nor key is read.

    magic      8 bytes   b"ASNTHE\r\n" (a transfer that mangles line ends shows at once)
    version    1 byte    1
    kind       1 byte    1 request, 2 reply
    header     u32 big-endian length, canonical JSON (RFC 8785) without fractions
    signature  u16 big-endian length, bytes; empty until signed
    body       the ciphertext, as long as the header says

The header is authenticated from outside: the hospital's signing key signs `header_digest`. It
commits to the body by SHA-256 and to every slot's (subject, consent), since several patients share
a ciphertext (decision D9); to the parameters, the key, the model and the conditioning of inputs,
so that nothing can be swapped between requests, models or hospitals (threats D4, P10).
"""

import struct
from dataclasses import dataclass

from compute import canonical as cj
from compute.errors import CiphertextRefused, InputMalformed
from compute.headers import ReplyHeader, RequestHeader

MAGIC = b"ASNTHE\r\n"
VERSION = 1
REQUEST = 1
REPLY = 2
MAX_HEADER_BYTES = 2 * 2**20
MAX_SIGNATURE_BYTES = 256
_HEAD = struct.Struct(">8sBBI")
#: The longest that everything before the body may be.
MAX_HEAD_BYTES = _HEAD.size + MAX_HEADER_BYTES + 2 + MAX_SIGNATURE_BYTES


@dataclass(frozen=True)
class Request:
    """A whole request: header, the hospital's signature over its digest, ciphertext."""

    header: RequestHeader
    body: bytes
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        """The wire form."""
        return _pack(REQUEST, self.header.to_json(), self.signature, self.body)

    def signed(self, signature: bytes) -> "Request":
        """The same request with a signature beside its header."""
        if len(signature) > MAX_SIGNATURE_BYTES:
            raise InputMalformed(f"a signature has at most {MAX_SIGNATURE_BYTES} bytes")
        return Request(self.header, self.body, signature)


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    header: ReplyHeader
    body: bytes
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        """The wire form."""
        return _pack(REPLY, self.header.to_json(), self.signature, self.body)


def parse_request(data: bytes) -> Request:
    """Read a request and check that header and body agree.

    Raises:
        CiphertextRefused: when anything is malformed, cut short, altered or too large.
    """
    header_json, signature, body = _unpack(data, REQUEST)
    header = RequestHeader.from_json(header_json)
    _check_body(header.body, header.body_bytes, body)
    return Request(header, body, signature)


def parse_reply(data: bytes) -> Reply:
    """Read a reply and check that header and body agree.

    Raises:
        CiphertextRefused: as `parse_request`.
    """
    header_json, signature, body = _unpack(data, REPLY)
    header = ReplyHeader.from_json(header_json)
    _check_body(header.body, header.body_bytes, body)
    return Reply(header, body, signature)


def parse_head(data: bytes) -> tuple[RequestHeader, bytes, int]:
    """Header, signature and the body's offset (bytes) from the first bytes of a request.

    The first `MAX_HEAD_BYTES` suffice; the body is not looked at.

    Raises:
        CiphertextRefused: when the head is malformed, cut short or too large.
    """
    header_json, signature, body = _unpack(data, REQUEST)
    return RequestHeader.from_json(header_json), signature, len(data) - len(body)


def read_header(data: bytes) -> RequestHeader:
    """The header of a request; enough to ask the gate about every slot.

    Raises:
        CiphertextRefused: as `parse_request`.
    """
    return parse_request(data).header


def header_digest(request_bytes: bytes) -> bytes:
    """What the hospital's signing key signs: 32 bytes, over the header and so over everything.

    Raises:
        CiphertextRefused: as `parse_request`.
    """
    return read_header(request_bytes).digest


def _pack(kind: int, header: bytes, signature: bytes, body: bytes) -> bytes:
    head = _HEAD.pack(MAGIC, VERSION, kind, len(header))
    return head + header + struct.pack(">H", len(signature)) + signature + body


def _unpack(data: bytes, kind: int) -> tuple[bytes, bytes, bytes]:
    if len(data) < _HEAD.size:
        raise CiphertextRefused("truncated", "shorter than its fixed head")
    magic, version, found, header_length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise CiphertextRefused("magic", "not a file of this format")
    if version != VERSION:
        raise CiphertextRefused("version", "not a version that is known here")
    if found != kind:
        raise CiphertextRefused("kind", "a request where a reply belongs, or the reverse")
    if header_length > MAX_HEADER_BYTES:
        raise CiphertextRefused("size", f"a header has at most {MAX_HEADER_BYTES} bytes")
    position = _HEAD.size + header_length
    if len(data) < position + 2:
        raise CiphertextRefused("truncated", "cut short within the header")
    (signature_length,) = struct.unpack_from(">H", data, position)
    if signature_length > MAX_SIGNATURE_BYTES:
        raise CiphertextRefused("size", f"a signature has at most {MAX_SIGNATURE_BYTES} bytes")
    start = position + 2 + signature_length
    if len(data) < start:
        raise CiphertextRefused("truncated", "cut short within the signature")
    return data[_HEAD.size : position], data[position + 2 : start], data[start:]


def _check_body(digest: str, length: int, body: bytes) -> None:
    if len(body) != length:
        raise CiphertextRefused("truncated", "the body is not as long as the header says")
    if cj.to_hex(cj.sha256(body)) != digest:
        raise CiphertextRefused("body", "the body is not the one that the header names")
