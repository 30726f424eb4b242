"""Reads the signature and the metadata of an ONNX file without the onnx package.

Walks the protobuf with every length checked against the bytes that are there, so that a hostile file is
refused before an engine sees it. Field numbers are those of onnx.proto3.
"""

from collections.abc import Iterator
from typing import NamedTuple

FLOAT32, UINT8 = 1, 2  # TensorProto.DataType
_TYPE_NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}
_MAX_FIELDS = 500_000  # per message; the largest of our graphs has some thousand nodes


class HeaderError(Exception):
    """The bytes are not a whole ONNX model of one file; the message says why and what to do."""


class TensorType(NamedTuple):
    """Element type and dimensions of a graph input or output."""

    element: int
    """TensorProto.DataType; 0 if it is no tensor."""
    shape: tuple[int | None, ...] | None
    """None for a length that is dynamic, and for a shape that is not stated at all."""

    def __str__(self) -> str:
        kind = _TYPE_NAMES.get(self.element, f"type {self.element}")
        shape = "?" if self.shape is None else ", ".join("N" if n is None else str(n) for n in self.shape)
        return f"{kind} [{shape}]"


class Header(NamedTuple):
    """What a model file says of itself, weights and nodes left out."""

    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    metadata: dict[str, bytes]


class _BrokenError(Exception):
    """The bytes are not a protobuf message, or not all of it."""


class _Field(NamedTuple):
    number: int
    value: int | memoryview
    """A number for wire type 0, else the bytes."""


def read_header(data: bytes) -> Header:
    """Read a model's signature and metadata.

    :param data: the whole file.
    :raises HeaderError: if it is not an ONNX model, is damaged, or keeps weights elsewhere.
    """
    inputs: dict[str, TensorType] = {}
    outputs: dict[str, TensorType] = {}
    metadata: dict[str, bytes] = {}
    has_version = has_graph = False
    try:
        for number, value in _fields(memoryview(data)):
            if number == 1:
                has_version = isinstance(value, int)
            elif number == 7:  # graph
                has_graph = True
                _read_graph(_nested(value), inputs, outputs)
            elif number == 14:  # metadata_props
                entry = dict(_fields(_nested(value)))
                metadata[_text(entry.get(1))] = bytes(_nested(entry.get(2, memoryview(b""))))
    except _BrokenError as error:
        if has_version:  # begins as a model does
            raise HeaderError(f"is damaged or cut short ({error}); copy or export it again") from None
        raise HeaderError("is not an ONNX model") from None
    if not has_version:
        raise HeaderError("is not an ONNX model" if data else "is empty")
    if not has_graph:
        raise HeaderError("is damaged or cut short (no graph); copy or export it again")
    return Header(inputs, outputs, metadata)


def _read_graph(graph: memoryview, inputs: dict[str, TensorType], outputs: dict[str, TensorType]) -> None:
    for number, value in _fields(graph):
        if number == 5:  # initializer
            if any(inner == 13 or (inner == 14 and flag == 1) for inner, flag in _fields(_nested(value))):
                raise HeaderError("keeps weights in another file; export it with the weights inside")
        elif number in (11, 12):  # input, output
            info = dict(_fields(_nested(value)))
            (inputs if number == 11 else outputs)[_text(info.get(1))] = _read_type(info.get(2))


def _read_type(value: int | memoryview | None) -> TensorType:
    kind = dict(_fields(_nested(value)))
    if 1 not in kind:
        return TensorType(0, None)  # a sequence or map: no tensor
    tensor = dict(_fields(_nested(kind[1])))
    element = tensor.get(1, 0)
    if not isinstance(element, int):
        raise _BrokenError("a tensor type has no element type")
    if 2 not in tensor:
        return TensorType(element, None)
    shape: list[int | None] = []
    for number, dimension in _fields(_nested(tensor[2])):
        if number == 1:
            length = dict(_fields(_nested(dimension))).get(1)
            shape.append(length if isinstance(length, int) else None)
    return TensorType(element, tuple(shape))


def _nested(value: int | memoryview | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise _BrokenError("a field has the wrong type")
    return value


def _text(value: int | memoryview | None) -> str:
    return bytes(_nested(value)).decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[_Field]:
    """Fields of one message, in order; skips nothing unchecked and copies nothing."""
    at, end = 0, len(data)
    for _ in range(_MAX_FIELDS):
        if at == end:
            return
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            scalar, at = _varint(data, at)
            yield _Field(number, scalar)
            continue
        if wire_type == 2:
            length, at = _varint(data, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise _BrokenError(f"wire type {wire_type}")
        if number == 0 or length > end - at:
            raise _BrokenError(f"a field of {length} bytes where {end - at} are left")
        yield _Field(number, data[at : at + length])
        at += length
    raise _BrokenError(f"more than {_MAX_FIELDS} fields in one message")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _BrokenError("it ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _BrokenError("a number of more than ten bytes")
