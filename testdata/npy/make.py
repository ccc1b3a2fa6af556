#!/usr/bin/env python3
"""Makes the .npy fixtures in good/ and bad/ with real NumPy.

    python3 -m pip install numpy==2.4.6 zstandard==0.25.0
    python3 testdata/npy/make.py            # writes good/ and bad/
    python3 testdata/npy/make.py --check    # exits 1 if a file would change

Made with NumPy 2.4.6 and zstandard 0.25.0 (zstd 1.5.7). The values are seeded, so the files are
the same, byte for byte, each time.

The values that good/X.VARIANT.npy must give are those of good/X.npy, which NumPy wrote as one item
of version 1.0 in little-endian C order. What is wrong with a file of bad/, and what the message
about it must say, stands in lib/core/tests/fixtures.rs.
"""

import gzip
import io
import pathlib
import struct
import sys
import zipfile

import numpy as np
import zstandard

HERE = pathlib.Path(__file__).resolve().parent
SHAPE = (3, 2, 2)
FLOATS, INTEGERS = ["f2", "f4", "f8"], ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]

files = {}


def add(name, content):
    assert name not in files, name
    files[name] = content


def values(dtype, shape=SHAPE, seed=0):
    """Random bits for integers, so that every byte differs; numbers with fractions for floats."""
    rng = np.random.default_rng([seed, *dtype.encode()])
    if dtype in FLOATS:
        return rng.normal(size=shape).astype(dtype)
    if dtype == "b1":
        return rng.integers(0, 2, size=shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, size=shape, endpoint=True, dtype=dtype)


def item(array, version=(1, 0)):
    """One item as NumPy writes it: byte order and order are the array's own."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version, allow_pickle=True)
    return out.getvalue()


def raw(header, data=b"", version=1, length=None):
    """An item with a header written by hand, padded as NumPy pads."""
    header = header.encode("latin1")
    size = 2 if version == 1 else 4
    header += b" " * (-(8 + size + len(header) + 1) % 64) + b"\n"
    prefix = struct.pack("<H" if size == 2 else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + prefix + header + data


def described(descr, shape, data=b"", order="False", **keywords):
    return raw(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}", data, **keywords)


def long_header(length):
    """A header of as many characters, most of them spaces."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {SHAPE}, }}".ljust(length - 1) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + header.encode()


def zstd(content, **parameters):
    return zstandard.ZstdCompressor(**parameters).compress(content)


def big(array):
    return array.astype(array.dtype.newbyteorder(">"))


def good():
    version = 0
    for dtype in [*FLOATS, *INTEGERS, "b1"]:
        array = values(dtype)
        add(f"good/{dtype}.npy", item(array))
        for name, variant in {
            "fortran": np.asfortranarray(array),
            "big": big(array),
            "big-fortran": np.asfortranarray(big(array)),
        }.items():
            if array.dtype.itemsize == 1 and "big" in name:
                continue
            # Each type meets each byte order and order; f4 meets each version with each of them.
            for version in [1, 2, 3] if dtype == "f4" else [version % 3 + 1]:
                add(f"good/{dtype}.{name}-v{version}.npy", item(variant, version=(version, 0)))

    f4 = values("f4")
    data = f4.tobytes()
    add("good/f4.v2.npy", item(f4, version=(2, 0)))
    add("good/f4.v3.npy", item(f4, version=(3, 0)))
    add("good/f4.native-order.npy", described("'=f4'", SHAPE, data))
    add("good/f4.no-order.npy", described("'f4'", SHAPE, data))
    add("good/f4.spaces.npy", raw(f"{{ 'shape':{SHAPE},'fortran_order':False , \"descr\":\"<f4\"}}", data))
    # Headers of other writers, all of which numpy.load reads.
    for name, header in {
        "python2": "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L, 2L), }",
        "unicode-strings": "{u'descr': u'<f4', u'fortran_order': False, u'shape': (3, 2, 2), }",
        "tabs": "{\t'descr'\t:'<f4',\n 'shape':\t( 3 ,2,2 ),\r\n'fortran_order':\tFalse}",
        "long-name": "{'descr': 'float32', 'fortran_order': False, 'shape': (3, 2, 2)}",
        "letter": "{'descr': '<f', 'fortran_order': False, 'shape': (3, 2, 2)}",
        "bar-order": "{'descr': '|f4', 'fortran_order': False, 'shape': (3, 2, 2)}",
        "twice-a-key": "{'shape': (9,), 'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2)}",
    }.items():
        content = raw(header, data)
        if name != "python2":  # NumPy warns.
            assert np.array_equal(np.load(io.BytesIO(content)), f4), name
        add(f"good/f4.{name}.npy", content)
    add("good/f4.no-newline.npy", item(f4)[:127] + b" " + data)
    add("good/i8.letter.npy", described("'<l'", SHAPE, values("i8").tobytes()))
    add("good/i4.python2-name.npy", raw("{u'descr':'intc','fortran_order':False,'shape':(3L,2L,2L,)}", values("i4").tobytes()))
    add("good/f4.header-of-10000.npy", long_header(10_000) + data)
    add("good/f4.data-is-a-magic-number.npy", item(f4[:1]) + item(f4[1:]))
    add("good/b1.question-mark.npy", described("'?'", SHAPE, values("b1").tobytes()))
    # NumPy reads any byte but 0 as true.
    odd = (values("b1").astype("u1") * np.arange(1, 13, dtype="u1").reshape(SHAPE)).tobytes()
    add("good/b1.odd-bytes.npy", described("'|b1'", SHAPE, odd))

    add("good/rows0.npy", item(f4[:0]))
    add("good/rows0.fortran.npy", described("'<f4'", (0, 2, 2), order="True"))
    add("good/rows0.items.npy", item(f4[:0]) + item(big(f4[:0]), version=(2, 0)))
    flat = values("f8", (5,))
    add("good/flat.npy", item(flat))
    add("good/flat.fortran.npy", described("'>f8'", (5,), big(flat).tobytes(), order="True"))
    deep = values("i2", (2, 3, 1, 2, 2))
    add("good/deep.npy", item(deep))
    add("good/deep.big-fortran.npy", item(np.asfortranarray(big(deep))))
    wide = values("u1", (2,) + (1,) * 62 + (3,))
    add("good/dims64.npy", item(wide))
    add("good/dims64.fortran.npy", described("'|u1'", wide.shape, wide.tobytes(order="F"), order="True"))

    mixed = (
        item(f4[:1])
        + item(np.asfortranarray(big(f4[1:1])), version=(3, 0))
        + item(np.asfortranarray(f4[1:]), version=(2, 0))
    )
    add("good/f4.items.npy", mixed)
    whole = item(f4)
    add("good/f4.zstd.npy", zstd(whole))
    add("good/f4.zstd-items.npy", zstd(mixed, level=19, write_checksum=True))
    add("good/f4.zstd-frames.npy", zstd(whole[:100]) + zstd(b"") + zstd(whole[100:]))
    add("good/f4.zstd-window-8m.npy", zstd_window(whole, 23))


def zstd_window(content, log):
    """A frame whose header asks for a window of 2^log bytes: streamed, so that no size is known."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=log, write_content_size=False, enable_ldm=True
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(content) + compressor.flush()


def bad():
    f4 = values("f4")
    data = f4.tobytes()
    whole = item(f4)

    def shaped(shape, descr="'<f4'", **keywords):
        return described(descr, shape, data, **keywords)

    # Elements that are refused.
    add("bad/object.npy", item(np.array([[None], [{}]], dtype=object)))
    add("bad/structured.npy", item(np.zeros(3, dtype=[("a", "<f4"), ("b", "<i2", (2,))])))
    add("bad/bytes.npy", item(np.array([[b"ab"], [b"cd"]])))
    add("bad/unicode.npy", item(np.array([["ab"], ["cd"]])))
    add("bad/complex.npy", item(np.zeros((3, 2), dtype="<c8")))
    add("bad/datetime.npy", item(np.zeros((3, 2), dtype="<M8[ns]")))
    add("bad/timedelta.npy", item(np.zeros((3, 2), dtype="<m8[s]")))
    add("bad/void.npy", item(np.zeros((3, 2), dtype="V8")))
    add("bad/longdouble.npy", described("'<f16'", (3, 2), bytes(96)))
    # As ml_dtypes writes bfloat16.
    add("bad/bfloat16.npy", described("'<V2'", (3, 2, 2), (f4.view("u4") >> 16).astype("<u2").tobytes()))
    add("bad/unknown-type.npy", shaped((3, 2, 2), descr="'<x4'"))
    add("bad/descr-is-a-number.npy", shaped((3, 2, 2), descr="4"))

    # Shapes that are refused.
    add("bad/zero-dims.npy", item(np.array(1.5, dtype="f4")))
    add("bad/dims65.npy", shaped((1,) * 65))
    add("bad/empty-rows.npy", item(np.zeros((3, 0, 2), dtype="f4")))
    add("bad/negative-shape.npy", shaped((3, -2, 2)))
    add("bad/float-shape.npy", shaped((3.0, 2)))
    add("bad/shape-is-a-number.npy", shaped(3))
    add("bad/overflow-product.npy", shaped((2**32, 2**32)))
    add("bad/overflow-bytes.npy", shaped((2**62,)))
    add("bad/overflow-isize.npy", shaped((2**61,)))
    add("bad/overflow-row-of-none.npy", shaped((0, 2**33, 2**33)))
    add("bad/overflow-number.npy", shaped((2**64,)))
    # 80 bytes of header that claim 8 exbibytes, and the same in Fortran order.
    hostile = "{'descr':'|u1','fortran_order':%s,'shape':(%d,%d)}"
    for name, order in [("hostile", "False"), ("hostile-fortran", "True")]:
        header = (hostile % (order, 2**31 - 1, 2**32)).encode().ljust(69) + b"\n"
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        assert len(content) == 80
        add(f"bad/{name}.npy", content)

    # Headers that are refused.
    add("bad/version-0.npy", whole[:6] + b"\x00" + whole[7:])
    add("bad/version-9.npy", whole[:6] + b"\x09" + whole[7:])
    add("bad/version-1.1.npy", whole[:7] + b"\x01" + whole[8:])
    add("bad/header-of-10001.npy", long_header(10_001) + data)
    add("bad/header-of-4-gib.npy", shaped((3, 2, 2), version=2, length=2**32 - 1))
    add("bad/header-of-none.npy", raw("", data, length=0))
    add("bad/garbage-header.npy", raw("these are not the keys you are looking for", data))
    add("bad/not-a-dictionary.npy", raw("['descr', 'fortran_order', 'shape']", data))
    add("bad/missing-key.npy", raw("{'descr': '<f4', 'shape': (3, 2, 2), }", data))
    add("bad/unknown-key.npy", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2), 'x': 1}", data))
    add("bad/order-is-a-number.npy", shaped((3, 2, 2), order="1"))
    add("bad/octal-shape.npy", shaped("(010, 2)"))
    add("bad/list-shape.npy", shaped("[3, 2, 2]"))
    add("bad/comma-shape.npy", shaped("(,)"))
    add("bad/text-behind.npy", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2)} or so", data))
    add("bad/unclosed.npy", raw("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2), ", data))
    add("bad/not-ascii.npy", shaped((3, 2, 2), descr="'<f\xe9'"))
    add("bad/not-utf8.npy", shaped((3, 2, 2), descr="'<f\xe9'", version=3))
    add("bad/control-characters.npy", shaped((3, 2, 2), descr="'\\x1b[31mred\\n'"))
    # Nesting that a parser with backtracking tries 3^n ways.
    add("bad/nested-tuples.npy", raw("(" * 9000, data))
    add("bad/nested-lists.npy", raw("{'descr': " + "[" * 40 + "0" + "]" * 40 + "}", data))
    add("bad/nested-sets.npy", raw("{" * 40 + "0" + "}" * 40, data))

    # What is no item.
    add("bad/empty.npy", b"")
    add("bad/text.npy", b"1.0 2.0 3.0\n")
    add("bad/short-text.npy", b"1\n")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr(zipfile.ZipInfo("x.npy"), whole)
    add("bad/archive.npz", archive.getvalue())
    add("bad/gzip.npy", gzip.compress(whole, mtime=0))

    # Streams that end too early.
    add("bad/truncated-magic.npy", whole[:4])
    add("bad/truncated-version.npy", whole[:7])
    add("bad/truncated-length.npy", whole[:9])
    add("bad/truncated-header.npy", whole[:100])
    add("bad/truncated-data.npy", whole[:-1])
    add("bad/no-data.npy", whole[:128])
    add("bad/truncated-fortran.npy", item(np.asfortranarray(f4))[:-5])
    add("bad/truncated-header-2.npy", whole + whole[:60])
    add("bad/truncated-data-2.npy", whole + whole[: 128 + 30])

    # Items that do not follow each other.
    add("bad/changed-dtype.npy", whole + item(f4.astype("f8")))
    add("bad/changed-shape.npy", whole + item(f4.reshape(3, 4)))
    add("bad/changed-refused-dtype.npy", whole + item(np.array([b"ab"])))
    add("bad/trailing-byte.npy", whole + b"\n")
    add("bad/trailing-zeros.npy", whole + bytes(8))
    add("bad/trailing-zstd.npy", whole + zstd(whole))

    # zstd that is refused.
    compressed = zstd(item(f4.repeat(50, axis=0)), level=1, write_checksum=True)
    add("bad/zstd-truncated.npy", compressed[: len(compressed) // 2])
    add("bad/zstd-truncated-header.npy", compressed[:5])
    add("bad/zstd-corrupt.npy", compressed[:-3] + bytes([compressed[-3] ^ 1]) + compressed[-2:])
    add("bad/zstd-trailing.npy", zstd(whole) + b"more")
    add("bad/zstd-of-nothing.npy", zstd(b""))
    add("bad/zstd-twice.npy", zstd(zstd(whole)))
    add("bad/zstd-window-16m.npy", zstd_window(whole, 24))
    add("bad/zstd-window-128m.npy", zstd_window(whole, 27))


def main():
    good()
    bad()
    found = {str(path.relative_to(HERE)) for kind in ["good", "bad"] for path in (HERE / kind).glob("*")}
    changed = {name for name, content in files.items() if name not in found or (HERE / name).read_bytes() != content}
    changed |= found - files.keys()
    if "--check" in sys.argv[1:]:
        sys.exit(f"would change: {sorted(changed)}" if changed else 0)
    for name in found - files.keys():
        (HERE / name).unlink()
    for name, content in files.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes, {len(changed)} changed")


main()
