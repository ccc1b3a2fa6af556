"""The tools of parm from Python: NumPy arrays in, NumPy arrays out.

>>> parity = parm.run("parm-encode", "--code", "sum", "-k", 2, input=queries)

A stream is one or more ``.npy`` items back to back. `read` and `rows` read streams, `write` writes an item, `run` and
`text` call a tool, and `start` starts one that goes on::

    encoder = parm.start("parm-encode", "--code", "sum", "-k", 2, "--flush")
    parities = parm.read(encoder)
    parm.write(encoder, first_group)
    parity = next(parities)
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, Optional, Union

import numpy as np
from numpy.lib import format as npy

__all__ = ["Failed", "read", "rows", "run", "start", "text", "write"]

#: The name of a file, an open file or pipe, or a process that `start` started.
File = Union[str, "os.PathLike[str]", IO[bytes], "subprocess.Popen[bytes]"]
#: The shape of an item, whether it is in Fortran order, and the type of its elements.
_Header = tuple[tuple[int, ...], bool, "np.dtype[Any]"]
#: The most bytes that are read at a time, so that memory grows only as data arrive.
_CHUNK = 1 << 24


class Failed(RuntimeError):
    """A tool failed. `code` is its exit code, and the message what it wrote to standard error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(file: File) -> Iterator[np.ndarray]:
    """The items of a stream, each as soon as it is complete."""
    with _opened(file, "rb") as stream:
        while header := _header(stream):
            yield _array(stream, header)


def rows(file: File, n: int) -> Iterator[np.ndarray]:
    """The rows of a stream in blocks of `n`, across items. The last block may have fewer."""
    if n < 1:
        raise ValueError(f"found blocks of {n} rows, expected at least 1")
    parts, missing = list[np.ndarray](), n
    with _opened(file, "rb") as stream:
        while header := _header(stream):
            shape, fortran, dtype = header
            # The rows of an item in Fortran order are known when all of it is.
            whole = _array(stream, header) if fortran else None
            begin = 0
            while begin < shape[0]:
                end = min(begin + missing, shape[0])
                part = (end - begin, *shape[1:]), False, dtype
                parts.append(_array(stream, part) if whole is None else whole[begin:end])
                missing -= end - begin
                begin = end
                if not missing:
                    yield np.concatenate(parts)
                    parts, missing = [], n
    if parts:
        yield np.concatenate(parts)


def write(file: File, array: Union[np.ndarray, Iterable[Any]], count: Optional[int] = None) -> None:
    """Writes one item: an array, or `count` rows that are written as they come."""
    blocks = [np.asarray(array)] if count is None else map(np.asarray, array)
    written = 0
    with _opened(file, "wb") as stream:
        for block in blocks:
            if not written:
                dtype, shape = block.dtype, block.shape
                whole = _checked(shape if count is None else (count, *shape), dtype)
                descr = npy.dtype_to_descr(dtype.newbyteorder("<"))
                npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": whole})
            if (block.dtype, block.shape) != (dtype, shape) or written == count:
                found = f"found {block.dtype}{block.shape} as row {written}"
                raise ValueError(f"{found}, expected {count} rows of {dtype}{shape}")
            stream.write(block.astype(dtype.newbyteorder("<"), copy=False).tobytes())
            stream.flush()
            written += 1
    if count is not None and written != count:
        raise ValueError(f"found {written} rows, expected {count}")


def run(tool: str, *arguments: Any, input: Optional[np.ndarray] = None) -> np.ndarray:
    """The output of a tool for this input, all of its items as one array.

    Among the arguments, an array stands for a file that contains it. Raises `Failed` if the tool fails.
    """
    items = list(read(io.BytesIO(_call(tool, arguments, input))))
    if not items:
        raise ValueError(f"{tool}: found no array on its standard output; text() returns other output")
    return np.concatenate(items)


def text(tool: str, *arguments: Any, input: Optional[np.ndarray] = None) -> str:
    """As `run`, for output that is no array, such as a table or JSON."""
    return _call(tool, arguments, input).decode()


def start(tool: str, *arguments: Any) -> subprocess.Popen[bytes]:
    """Starts a tool with pipes to its standard input and output, for `write` and `read`."""
    pipe, words = subprocess.PIPE, [_program(tool), *map(str, arguments)]
    return subprocess.Popen(words, stdin=pipe, stdout=pipe)


def _call(tool: str, arguments: tuple[Any, ...], given: Optional[np.ndarray]) -> bytes:
    stream = io.BytesIO()
    if given is not None:
        write(stream, given)
    with tempfile.TemporaryDirectory() as folder:
        words = [_program(tool)]
        for index, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                array, argument = argument, os.path.join(folder, f"{index}.npy")
                write(argument, array)
            words.append(str(argument))
        done = subprocess.run(words, input=stream.getvalue(), capture_output=True)
    message = done.stderr.decode(errors="replace")
    if done.returncode:
        raise Failed(done.returncode, message.strip())
    sys.stderr.write(message)
    return done.stdout


def _program(tool: str) -> str:
    """The tool that was installed with this module, or else that of the PATH."""
    folders = [sysconfig.get_path("scripts"), os.path.join(os.path.dirname(__file__), "../bin"), os.environ.get("PATH", "")]
    if found := shutil.which(tool, path=os.pathsep.join(folders)):
        return found
    raise FileNotFoundError(f"{tool}: found neither beside Python nor in the PATH")


@contextlib.contextmanager
def _opened(file: File, mode: str) -> Iterator[IO[bytes]]:
    """Opens and closes a file that is given by name; others stay open."""
    if isinstance(file, subprocess.Popen):
        stream = file.stdout if mode == "rb" else file.stdin
        if stream is None:
            raise ValueError("found a process without pipes, expected one that start() started")
        yield stream
    elif isinstance(file, (str, os.PathLike)):
        with open(file, mode) as opened:
            yield opened
    else:
        yield file


def _header(stream: IO[bytes]) -> Optional[_Header]:
    """The header of the next item; none at the end of the stream."""
    magic = stream.read(1)
    if not magic:
        return None
    magic += _exactly(stream, npy.MAGIC_LEN - 1)
    if magic[:6] != npy.MAGIC_PREFIX or magic[6] not in (1, 2, 3):
        raise ValueError(f"found {magic!r}, expected an uncompressed .npy item")
    size = _exactly(stream, 2 if magic[6] == 1 else 4)
    content = io.BytesIO(size + _exactly(stream, int.from_bytes(size, "little")))
    parse = npy.read_array_header_1_0 if magic[6] == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = parse(content)
    return _checked(shape, dtype), fortran, dtype


def _checked(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    if dtype.kind not in "biuf" or not shape:
        raise ValueError(f"found {dtype}{shape}, expected rows of numbers or booleans")
    return shape


def _array(stream: IO[bytes], header: _Header) -> np.ndarray:
    shape, fortran, dtype = header
    data = _exactly(stream, math.prod(shape) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        chunk = stream.read(min(size - len(data), _CHUNK))
        if not chunk:
            raise EOFError(f"an item ended after {len(data)} of {size} bytes")
        data += chunk
    return data
