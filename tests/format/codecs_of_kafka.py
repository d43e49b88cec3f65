"""The codecs of the repository format and of Kafka's record batches, for Python 3.11 and later.

gzip is in the standard library. zstd comes from the package `zstandard` (Debian: python3-zstandard), from Python 3.14's own
library, or from the command `zstd`. lz4 and snappy are decoded here: decoding them is short.
"""

import gzip
import shutil
import struct
import subprocess


def decompress(codec, data):
    return {"none": bytes, "gzip": gzip.decompress, "snappy": snappy, "lz4": lz4, "zstd": zstd}[codec](data)


def zstd(data):
    try:
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except ImportError:
        pass
    try:
        from compression import zstd as standard

        return standard.decompress(data)
    except ImportError:
        pass
    if shutil.which("zstd") is None:
        raise SystemExit("reader.py needs zstd: install Debian's python3-zstandard, or its zstd")
    return subprocess.run(["zstd", "-d", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def copy_match(out, distance, length):
    """Repeats what lies `distance` back; it may overlap what it writes."""
    if not 0 < distance <= len(out):
        raise ValueError("a match reaches before the beginning")
    for _ in range(length):
        out.append(out[-distance])


XERIAL = b"\x82SNAPPY\x00"


def snappy(data):
    """Snappy in xerial's framing, or raw."""
    if not data.startswith(XERIAL):
        return raw_snappy(data)
    out, at = bytearray(), len(XERIAL) + 8
    while at < len(data):
        (length,) = struct.unpack_from(">i", data, at)
        out += raw_snappy(data[at + 4 : at + 4 + length])
        at += 4 + length
    return bytes(out)


def raw_snappy(data):
    at = length = shift = 0
    while True:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            count = (tag >> 2) + 1
            if count > 60:
                extra = count - 60
                count = int.from_bytes(data[at : at + extra], "little") + 1
                at += extra
            out += data[at : at + count]
            at += count
        elif tag & 3 == 1:
            copy_match(out, (tag >> 5) << 8 | data[at], (tag >> 2 & 7) + 4)
            at += 1
        else:
            width = 2 if tag & 3 == 2 else 4
            copy_match(out, int.from_bytes(data[at : at + width], "little"), (tag >> 2) + 1)
            at += width
    if len(out) != length:
        raise ValueError("snappy: wrong length")
    return bytes(out)


def lz4(data):
    """LZ4 frames. Their own checksums are not looked at: the bytes were proven before."""
    out, at = bytearray(), 0
    while at < len(data):
        if data[at : at + 4] != b"\x04\x22\x4d\x18":
            raise ValueError("lz4: no frame begins here")
        flags = data[at + 4]
        independent, block_sums, content_size = flags & 0x20, flags & 0x10, flags & 0x08
        content_sum, dictionary = flags & 0x04, flags & 0x01
        at += 7 + (8 if content_size else 0) + (4 if dictionary else 0)
        frame = bytearray()
        while True:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
            if size == 0:
                break
            block = data[at : at + (size & 0x7FFFFFFF)]
            at += len(block) + (4 if block_sums else 0)
            if size & 0x80000000:
                frame += block
            elif independent:
                piece = bytearray()
                lz4_block(block, piece)
                frame += piece
            else:
                lz4_block(block, frame)
        at += 4 if content_sum else 0
        out += frame
    return bytes(out)


def lz4_block(block, out):
    at = 0

    def length(start):
        nonlocal at
        total = start
        if start == 15:
            while True:
                byte = block[at]
                at += 1
                total += byte
                if byte != 255:
                    break
        return total

    while at < len(block):
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            return
        distance = int.from_bytes(block[at : at + 2], "little")
        at += 2
        copy_match(out, distance, length(token & 15) + 4)
