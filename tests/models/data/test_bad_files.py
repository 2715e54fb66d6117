"""What is said about files that cannot be used: the name, what was expected, what came."""

from __future__ import annotations

import gzip
import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.models.data import samples
from tests.models.data.judging import judge

IDX = samples.idx_bytes(samples.numbers(4, 5, 6))
NPY = b"\x93NUMPY\x01\x00"


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118)
    return NPY + struct.pack("<H", len(text)) + text + data


def described(shape: str, descr: str = "<f4") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def mrc_bytes(
    mode: int = 2, shape: tuple[int, int, int] = (2, 3, 4), extended: int = 0, data: int = 96
) -> bytes:
    header = bytearray(1024)
    struct.pack_into("<4i", header, 0, *shape[::-1], mode)
    struct.pack_into("<i", header, 92, extended)
    header[208:216] = b"MAP \x44\x44\0\0"
    return bytes(header) + bytes(data)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def nifti_bytes(shape: tuple[int, ...], data: int, datatype: int = 2, magic: bytes = b"n+1\0") -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(shape), *shape, *(1,) * (7 - len(shape)))
    struct.pack_into("<hh", header, 70, datatype, {2: 8, 16: 32, 32: 64}[datatype])
    struct.pack_into("<8f", header, 76, *(1,) * 8)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = magic
    return bytes(header) + bytes(data)


def png_bytes(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IDAT"
    )


TRACKS = "\n".join(samples.track(1, range(0, 60, 10)))

# Name of the file, its bytes, and what must be said.
CASES: list[tuple[str, bytes, str]] = [
    ("empty-idx3-ubyte", b"", "expected 4 bytes of an idx header, got only 0"),
    ("magic-idx3-ubyte", b"\1" + IDX[1:], "expected an idx header: .*, got 1 0 8 3"),
    ("type-idx3-ubyte", IDX[:2] + b"\7" + IDX[3:], "expected an idx header: .*, got 0 0 7 3"),
    ("endian-idx3-ubyte", IDX[:4] + IDX[4:16][::-1] + IDX[16:], r"expected \d{20,} bytes .*, got 136"),
    ("more-idx3-ubyte", IDX + b"\0", "expected 136 bytes for an array .*, got 137 bytes"),
    ("none-idx3-ubyte", IDX[:4] + bytes(12), r"expected at least one value, got an array \(0, 0, 0\)"),
    ("plain-idx3-ubyte.gz", IDX, "expected 4 bytes of an idx header, got Not a gzipped file"),
    ("huge-idx3-ubyte.gz", gzip.compress(IDX[:4] + b"\xff" * 12), "data for an array .*compressed bytes"),
    ("more-idx3-ubyte.gz", gzip.compress(IDX + b"\0"), "expected 120 bytes for an array .*, got more"),
    ("sum-idx3-ubyte.gz", gzip.compress(IDX)[:-8] + bytes(8), "got CRC check failed"),
    ("empty.npy", b"", "expected 8 bytes of a .npy header, got only 0"),
    ("magic.npy", b"NUMPY" + NPY, r"begins with \\x93NUMPY, got b'NUMPY"),
    ("version.npy", b"\x93NUMPY\x09\x00" + bytes(9), "header of version 1 or 2, got version 9.0"),
    ("long.npy", b"\x93NUMPY\x02\x00" + b"\xff" * 4, "header of at most 4096 bytes, got 4294967295 bytes"),
    ("nested.npy", npy_bytes("(" * 90), "expected a .npy header, got"),
    ("object.npy", npy_bytes(described("(3,)", "|O")), "real numbers, got dtype object"),
    ("complex.npy", npy_bytes(described("(3,)", "<c8"), bytes(24)), "real numbers, got dtype complex64"),
    ("huge.npy", npy_bytes(described("(99999999999, 99999999999, 9)")), r"\d{23} bytes .*, got 128 bytes"),
    ("negative.npy", npy_bytes(described("(-3, 4)")), r"without negative sizes, got \(-3, 4\)"),
    ("none.npy", npy_bytes(described("(0, 4)")), r"at least one sample, got one of shape \(0, 4\)"),
    ("scalar.npy", npy_bytes(described("()"), bytes(4)), r"at least one sample, got one of shape \(\)"),
    ("six.npy", npy_bytes(described("(1, 1, 1, 1, 1, 1)"), bytes(4)), "3 to 5 axes .*layout"),
    ("both.npy", npy_bytes(described("(1, 3, 2, 3)"), bytes(72)), "1 or 3 or 4 channels either .*layout="),
    ("text.npz", b"no archive", "expected a .npz archive, got File is not a zip file"),
    ("nothing.npz", zipped(), "expected at least one array, got nothing"),
    (
        "huge.npz",
        zipped(images=npy_bytes(described("(99999, 99999, 9)"))),
        r"huge.npz \(images\): expected data for an array .*, got \d+ compressed bytes",
    ),
    (
        "counts.npz",
        zipped(
            images=npy_bytes(described("(2, 1, 1)"), bytes(8)), labels=npy_bytes(described("(1,)"), bytes(4))
        ),
        "as many rows in labels as in images, 2, got 1",
    ),
    (
        "more.npz",
        zipped(images=npy_bytes(described("(2, 1, 1)"), bytes(9))),
        r"more.npz \(images\): expected 8 bytes for an array \(2, 1, 1\) of float32, got more",
    ),
    ("object.npz", zipped(images=npy_bytes(described("(3,)", "|O"))), "real numbers, got dtype object"),
    ("short.mrc", mrc_bytes(data=95), "expected 1120 bytes for 2 x 3 x 4 values of float32, got 1119"),
    ("mode.mrc", mrc_bytes(mode=9), "expected an MRC header, got Unrecognised mode '9'"),
    ("complex.mrc", mrc_bytes(mode=4), "real numbers, MRC modes 0, 1, 2, 6 or 12, got mode 4"),
    ("huge.mrcs", mrc_bytes(shape=(2**31 - 1,) * 3), r"expected \d{25,} bytes for .*, got 1120"),
    ("negative.mrcs", mrc_bytes(shape=(-2, -3, 4)), r"positive sizes .*, got sizes \(-2, -3, 4\)"),
    ("extended.mrcs", mrc_bytes(extended=2**31 - 1), r"expected 2147484767 bytes .*, got 1120"),
    ("text.star", b"hello", "one table with a column rlnImageName, got no table"),
    ("column.star", b"data_\nloop_\n_rlnAnglePsi\n1.0\n2.0\n", "column rlnImageName, got '': rlnAnglePsi"),
    ("absent.star", b"data_\nloop_\n_rlnImageName\n1@none.mrcs\n", "row 1 refers to, got no file"),
    ("rows.star", b"data_\nloop_\n_rlnImageName\n", "expected (rows in the table ''|one table), got"),
    ("latin.star", "data_\nloop_\n_rlnImageName\n1@é.mrcs\n".encode("latin-1"), "a STAR file in UTF-8"),
    ("short.nii", nifti_bytes((3, 4, 5), 59), "412 bytes for 3 x 4 x 5 voxels of uint8, got 411"),
    ("more.nii", nifti_bytes((3, 4, 5), 61), "expected 412 bytes .*, got 413 bytes"),
    ("more.nii.gz", gzip.compress(nifti_bytes((3, 4, 5), 61)), "3 x 4 x 5 voxels of uint8, got more"),
    (
        "huge.nii.gz",
        gzip.compress(nifti_bytes((999, 999, 999), 60)),
        r"\d+ bytes .*, got \d+ compressed bytes",
    ),
    ("huge.nii", nifti_bytes((32767, 32767, 32767), 60), r"expected \d{12,} bytes .*, got 412 bytes"),
    ("flat.nii", nifti_bytes((3, 4), 12), r"expected 3 or 4 axes, none empty, got shape \(3, 4\)"),
    ("complex.nii", nifti_bytes((3, 4, 5), 480, datatype=32), "of real numbers, got complex64"),
    ("pair.nii", nifti_bytes((3, 4, 5), 60, magic=b"ni1\0"), "with its voxels inside, got b'ni1'"),
    (
        "plain.nii.gz",
        nifti_bytes((3, 4, 5), 60),
        "expected 4 bytes of a NIfTI header, got Not a gzipped file",
    ),
    ("text.png", b"no picture", "expected a picture, got cannot identify image file"),
    ("huge.png", png_bytes(13000, 13000), "expected data for 13000 x 13000 pixels, got 41 bytes"),
    ("bomb.png", png_bytes(2**31 - 1, 2**31 - 1), "bomb.png: expected"),
    ("empty.txt", b"\n\n", "expected lines of frame, pedestrian, x, y, got none"),
    ("column.txt", b"0 1 2.5\n", "expected frame, pedestrian, x, y in line 1, got 3 columns"),
    ("word.txt", f"{TRACKS}\n60 1 2.0 abc\n".encode(), "expected four numbers in line 7, got '60 1 2.0 abc'"),
    ("nan.txt", f"{TRACKS}\n60 1 nan 1\n".encode(), "expected finite numbers in line 7, got '60 1 nan 1'"),
    ("inf.txt", b"0 1 1e39 1\n", "expected finite numbers in line 1"),
    ("frame.txt", b"0.5 1 1 1\n", "expected a whole frame and pedestrian in line 1"),
    ("twice.txt", b"0 1 1 1\n0 2 1 1\n0 1 2 2\n", "once in a frame, got .*second time in line 3"),
    ("short.txt", TRACKS.encode(), "expected a pedestrian seen in 20 successive steps, got none"),
    ("latin.txt", "0 1 1 é".encode("latin-1"), "expected a text in UTF-8"),
    ("unknown.xyz", b"", r"expected a file like \*.nii.*got the name unknown.xyz"),
]


@pytest.mark.filterwarnings("ignore:Image size:Warning")
@pytest.mark.parametrize(("name", "data", "message"), CASES, ids=[case[0] for case in CASES])
def test_what_is_wrong_is_said(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    said = judge(tmp_path / name, {}, name)
    assert re.search(message, said), said


def test_a_chunk_that_claims_gigabytes_takes_no_memory(tmp_path: Path) -> None:
    """The pixels are whole, so the picture may be read; Pillow would make room for the rest of the chunk."""
    pixels = zlib.compress(bytes(3 * (1 + 3 * 3)))
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(3, 3)[:-8] + b"\xff\xff\xff\x00IDAT" + pixels)
    assert judge(path, {}, "a.png") == ""
