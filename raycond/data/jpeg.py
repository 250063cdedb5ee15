"""The segments of a JPEG file: what decoding it needs, what its metadata says, and how many scans it has."""

from __future__ import annotations

from dataclasses import dataclass

_SOS, _EOI, _APP1 = 0xDA, 0xD9, 0xE1
_ALONE = {0x00, 0x01, *range(0xD0, 0xD8)}  # markers without a length: stuffing, TEM, restarts
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
# Comments and application data, but for JFIF (APP0) and Adobe (APP14), which say what the colors mean.
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {0xEE}


@dataclass(frozen=True)
class Jpeg:
    """One JPEG file, taken apart."""

    pixels: bytes
    """The file without its metadata. Nothing that a decoder makes of it is lost."""
    exif: bytes | None
    """The first EXIF block, beginning with its name."""
    xmp: bytes | None
    """The XMP packet."""
    progressive: bool
    """Whether the coefficients come in several refining scans."""
    start: int
    """Where in `pixels` the first scan begins."""

    def scans(self, enough: int) -> int:
        """How many scans there are. Each costs a pass over all coefficients, however few bytes it has.

        enough: if the file cannot have more than this many, the number may be too large by mistaken ones.
        """
        most = self.pixels.count(b"\xff\xda", self.start)
        return most if most <= enough else _count_scans(self.pixels, self.start)


def take_apart(data: bytes) -> Jpeg:
    """Read the segments before the first scan. A damaged file is passed on as it is from where it is damaged."""
    kept, position = [data[:2]], 2
    exif = xmp = None
    progressive = False
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in _ALONE:
            position += 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker in (_SOS, _EOI) or not position + 4 <= end <= len(data):
            break
        progressive = progressive or marker in _PROGRESSIVE
        if marker not in _METADATA:
            kept.append(data[position:end])
        elif marker == _APP1 and data.startswith(b"Exif\0\0", position + 4):
            exif = exif or data[position + 4 : end]
        elif marker == _APP1 and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", position + 4):
            xmp = xmp or data[position + 4 : end]
        position = end
    start = sum(map(len, kept))
    return Jpeg(b"".join([*kept, data[position:]]), exif, xmp, progressive, start)


def _count_scans(data: bytes, position: int) -> int:
    """Walk from marker to marker until the end of the image."""
    count = 0
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker == _EOI:
            break
        else:
            count += marker == _SOS
            position += 2 + max(2, int.from_bytes(data[position + 2 : position + 4]))
    return count
