"""Members of a gzip file that tell their length, so that what a kill has left of one is found.

All that reads gzip takes members that follow each other for one file (RFC 1952, 2.2). The length
stands in the extra field, which readers skip, as in the BGZF files of genome data.
"""

from __future__ import annotations

import os
import struct
import zlib

from turbo_queue.errors import SinkFailed

#: Deflated, with an extra field, no time, of any system; then the field's own length, name and
#: the length of its value.
_PREFIX = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<H2sH", 12, b"TQ", 8)
_LENGTH = struct.Struct("<Q")
_TRAILER = struct.Struct("<II")

_HEADER_BYTES = len(_PREFIX) + _LENGTH.size
_LEAST_BYTES = _HEADER_BYTES + _TRAILER.size

_CHUNK_BYTES = 256 * 1024


def member(data: bytes) -> bytes:
    """A whole member.

    Example:
        >>> import gzip
        >>> gzip.decompress(member(b"one, ") + member(b"two"))
        b'one, two'
    """
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = compressor.compress(data) + compressor.flush()
    length = _LENGTH.pack(_LEAST_BYTES + len(body))
    trailer = _TRAILER.pack(zlib.crc32(data), len(data) & 0xFFFFFFFF)
    return b"".join((_PREFIX, length, body, trailer))


def whole_bytes(descriptor: int) -> int:
    """Where the last whole member of a file ends; what follows is what a kill has left of ours.

    Raises:
        SinkFailed: what follows is not ours.
        OSError: the file cannot be read.
    """
    size = os.fstat(descriptor).st_size
    end = 0
    while end < size:
        header = os.pread(descriptor, _HEADER_BYTES, end)
        if not _PREFIX.startswith(header[: len(_PREFIX)]):
            end = _end_of_foreign(descriptor, end)
            continue
        if len(header) < _HEADER_BYTES:
            break
        [length] = _LENGTH.unpack_from(header, len(_PREFIX))
        next_end = end + max(length, _LEAST_BYTES)
        # A loss of power may leave the right length and the wrong bytes, at the end only.
        if next_end > size or (next_end == size and not _is_whole(descriptor, end, length)):
            break
        end = next_end
    return end


def _is_whole(descriptor: int, start: int, length: int) -> bool:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        decompressor.decompress(os.pread(descriptor, length, start))
    except zlib.error:
        return False
    return decompressor.eof


def _end_of_foreign(descriptor: int, start: int) -> int:
    """Where a member ends that does not tell its length."""
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    at = start
    try:
        while not decompressor.eof and (data := os.pread(descriptor, _CHUNK_BYTES, at)):
            at += len(data)
            decompressor.decompress(data)
    except zlib.error as error:
        raise _unusable(f"it holds at byte {start:,} what is not gzip ({error})") from None
    if not decompressor.eof:
        raise _unusable("it was cut in the middle of what another program has written")
    return at - len(decompressor.unused_data)


def _unusable(reason: str) -> SinkFailed:
    return SinkFailed(f"the file cannot be appended to: {reason}; move it, or name another file")
