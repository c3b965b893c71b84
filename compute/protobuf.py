"""Just enough of the protocol-buffer wire format to look at a message before a library reads it.

Only the three kinds of field that serialised contexts and tensors use: varint, 64-bit, and
length-delimited (https://protobuf.dev/programming-guides/encoding/).
"""

from collections.abc import Iterator

from compute.errors import InputMalformed

VARINT = 0
FIXED64 = 1
DELIMITED = 2


def read_fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of each top-level field, in order; nothing is copied twice.

    Raises:
        InputMalformed: for a message that is cut short or holds another kind of field.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            whole, position = _varint(data, position)
            yield number, whole
            continue
        if wire == FIXED64:
            length = 8
        elif wire == DELIMITED:
            length, position = _varint(data, position)
        else:
            raise InputMalformed("message: an unknown kind of field")
        if position + length > len(data):
            raise InputMalformed("message: cut short")
        yield number, data[position : position + length]
        position += length


def unique_fields(data: bytes) -> dict[int, bytes | int]:
    """The fields by number, each at most once.

    Raises:
        InputMalformed: as `read_fields`, and for a field that appears twice.
    """
    found: dict[int, bytes | int] = {}
    for number, value in read_fields(data):
        if number in found:
            raise InputMalformed("message: a field appears twice")
        found[number] = value
    return found


def packed(data: bytes) -> list[int]:
    """Whole numbers of a packed repeated field.

    Raises:
        InputMalformed: when it is cut short.
    """
    numbers = []
    position = 0
    while position < len(data):
        number, position = _varint(data, position)
        numbers.append(number)
    return numbers


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= len(data):
            raise InputMalformed("message: cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise InputMalformed("message: a number is too long")
