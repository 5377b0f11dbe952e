"""The state of a trial as bytes: nested dictionaries of tensors, arrays, numbers and text.

The bytes are an uncompressed zip file: ``state.json`` holds the structure, and each array is a file
in numpy's format. Loading executes no code. Torch and numpy are used only where the state holds
objects of theirs, so a script that needs neither never imports them.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Mapping
from importlib import import_module
from typing import Any

VERSION = 1
"""Version of the format."""

STRUCTURE = "state.json"
"""The file with the structure."""

_PLAIN = (str, bool, int, float, type(None))


class StateError(Exception):
    """A state holds a value that can't be saved, or its bytes can't be read."""


def encode(state: Any) -> bytes:
    """Return `state` as bytes.

    Raises:
        StateError: It holds a value of another type; the message names the place.
    """
    arrays: list[Any] = []
    structure = {"version": VERSION, "state": _encoded(state, "state", arrays)}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(STRUCTURE, json.dumps(structure))
        for number, array in enumerate(arrays):
            content = io.BytesIO()
            import_module("numpy").save(content, array, allow_pickle=False)
            archive.writestr(f"{number}.npy", content.getvalue())
    return target.getvalue()


def decode(content: bytes) -> Any:
    """Return the state of bytes that `encode` made: tensors on the CPU, arrays, and so on.

    Raises:
        StateError: They are of another format.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            structure = json.loads(archive.read(STRUCTURE))
            if structure["version"] > VERSION:
                raise StateError("the checkpoint was written by a newer version of sweeper.")
            return _decoded(structure["state"], archive)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise StateError(f"the checkpoint isn't one of a script or a function: {error}") from error


def _encoded(value: Any, place: str, arrays: list[Any]) -> Any:
    """Return `value` as JSON has it. What JSON lacks is a list of a tag and its content."""
    if isinstance(value, _PLAIN) and type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        pairs = [
            [
                _encoded(k, f"the key {k!r} of {place}", arrays),
                _encoded(v, f"{place}[{k!r}]", arrays),
            ]
            for k, v in value.items()
        ]
        return ["dict", pairs]
    if isinstance(value, list | tuple):
        items = [_encoded(v, f"{place}[{i}]", arrays) for i, v in enumerate(value)]
        return ["tuple" if isinstance(value, tuple) else "list", items]
    if isinstance(value, bytes | bytearray):
        return ["bytes", bytes(value).hex()]
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        return ["tensor", *_tensor(value, arrays)]
    if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
        if value.dtype.hasobject:
            raise StateError(f"{place} is an array of Python objects. Save it as numbers or text.")
        arrays.append(numpy.asarray(value))
        return ["array" if isinstance(value, numpy.ndarray) else "scalar", len(arrays) - 1]
    if isinstance(value, bool | int | float | str):  # e.g. a member of an enumeration
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    raise StateError(
        f"{place} is of the type {type(value).__name__}. A checkpoint holds tensors, arrays, "
        "numbers, text, None, and lists and dictionaries of these, e.g. model.state_dict()."
    )


def _tensor(value: Any, arrays: list[Any]) -> tuple[int, str]:
    """Add a tensor to `arrays`; return its number and its dtype."""
    torch = sys.modules["torch"]
    plain = value.detach().cpu().contiguous()
    dtype = str(plain.dtype).removeprefix("torch.")
    try:
        array = plain.numpy()
    except TypeError:  # numpy lacks the dtype, e.g. bfloat16
        array = plain.reshape(-1).view(torch.uint8).numpy()
        array = array.reshape(*plain.shape, plain.element_size())
        dtype = f"bytes of {dtype}"
    arrays.append(array)
    return len(arrays) - 1, dtype


def _decoded(value: Any, archive: zipfile.ZipFile) -> Any:
    if not isinstance(value, list):
        return value
    tag, content, *rest = value
    if tag == "dict":
        return {_decoded(k, archive): _decoded(v, archive) for k, v in content}
    if tag in ("list", "tuple"):
        items = [_decoded(v, archive) for v in content]
        return tuple(items) if tag == "tuple" else items
    if tag == "bytes":
        return bytes.fromhex(content)
    array = import_module("numpy").load(io.BytesIO(archive.read(f"{content}.npy")))
    if tag != "tensor":
        return array[()] if tag == "scalar" else array
    torch = import_module("torch")
    dtype = rest[0]
    if dtype.startswith("bytes of "):
        dtype = dtype.removeprefix("bytes of ")
        shape = array.shape[:-1]
        return torch.from_numpy(array.reshape(-1)).view(getattr(torch, dtype)).reshape(shape)
    return torch.from_numpy(array)
