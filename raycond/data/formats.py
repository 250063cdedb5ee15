"""Which format the bytes of a file are in, by their content alone, and which way up the picture in them is.

Formats that run other programs (EPS) stay out. The plugins are imported here, because Pillow would otherwise load all
of its plugins in the middle of a decode thread, and they are called directly: `Image.open` has a limit of its own on
the number of pixels.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import struct
import warnings
from collections.abc import Callable

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from raycond.core.errors import BadImage

try:  # in Pillow from 11.3 on
    from PIL import AvifImagePlugin
except ImportError:
    AvifImagePlugin = None  # type: ignore[assignment]

# Pillow warns of every odd tag of a damaged EXIF block, each with a text of its own: thousands of lines from one file.
warnings.filterwarnings("ignore", module=r"PIL\.")


def _silence_libtiff() -> None:
    """libtiff prints every error and warning on stderr from C; what matters of it comes back as an exception."""
    with contextlib.suppress(OSError, AttributeError):  # a Pillow without libtiff, or with one linked in
        library = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


_silence_libtiff()

_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_AVIF = (b"avif", b"avis", b"mif1", b"msf1")

# What files that cannot be read turn out to be, by their first bytes.
_OTHER = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name)
    for pattern, name in (
        (rb".{4}ftyp(heic|heix|hevc|heim|heis|hevm|hevs)", "HEIC"),
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
        (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"8BPS", "PSD"),
        (rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", "PDF or PostScript"),
        (rb"\x00\x00[\x01\x02]\x00", "ICO"),
        (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", "SVG"),
        (rb"\s*<(!doctype\s+html|html)", "an HTML page, perhaps from a failed download"),
        (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself with git lfs pull"),
        (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "an archive"),
        (rb".{4}(ftyp|moov)|\x1aE\xdf\xa3|RIFF.{4}AVI ", "a video"),
    )
)

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_FROM_XMP = re.compile(r'tiff:Orientation(?:="|>)([0-9])')


def kind_of(data: bytes) -> str | None:
    """The format that the first bytes announce (JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM or AVIF), None for any other."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(_TIFF):
        return "TIFF"
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF:
        return "AVIF"
    if data.startswith(b"BM"):
        return "BMP"
    if re.match(rb"P[0-7fy]\s", data):
        return "PPM"
    return None


def open_image(data: bytes) -> ImageFile.ImageFile:
    """The image in `data`, of which only the header has been read.

    Raises BadImage if it is in no format known here, and whatever Pillow raises on a damaged header.
    """
    kind = kind_of(data)
    if kind is None:
        what = next((name for pattern, name in _OTHER if pattern.match(data[:1024])), "")
        raise BadImage("not an image in a known format" + (f": {what}" if what else ""))
    return _plugins()[kind](io.BytesIO(data))


def _plugins() -> dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]:
    return {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "AVIF": _open_avif,
    }


def _open_avif(file: io.BytesIO) -> ImageFile.ImageFile:
    if AvifImagePlugin is None or not AvifImagePlugin.SUPPORTED:
        raise BadImage("not an image in a known format: AVIF, which this Pillow cannot read (from 11.3 on it can)")
    return AvifImagePlugin.AvifImageFile(file)


def turn(image: Image.Image) -> Image.Transpose | None:
    """What turns a loaded picture upright, as its EXIF or XMP says; None if nothing does, or they are damaged."""
    exif = image.info.get("exif")
    orientation = _exif_orientation(exif) if isinstance(exif, bytes) else None
    raw = image.info.get("Raw profile type exif")
    if exif is None and isinstance(raw, str):
        try:
            orientation = _exif_orientation(bytes.fromhex("".join(raw.split("\n")[3:])))
        except ValueError:
            orientation = None
    if orientation is None and hasattr(image, "tag_v2"):  # TIFF; recent versions of Pillow have turned it already
        orientation = image.tag_v2.get(_ORIENTATION)
    if orientation is None:
        orientation = _xmp_orientation(image.info.get("XML:com.adobe.xmp") or image.info.get("xmp"))
    return UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _exif_orientation(data: bytes) -> int | None:
    """The orientation in the first directory of an EXIF block. Read here, because Pillow would load every tag."""
    data = data.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for k in range(count):
            tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", data, start + 2 + 12 * k)
            if tag == _ORIENTATION and kind in (1, 3, 4):
                code = {1: "B", 3: "H", 4: "I"}[kind]
                return int(struct.unpack_from(order + code, value)[0])
    except struct.error:  # damaged EXIF around sound pixels: they are shown as they lie
        return None
    return None


def _xmp_orientation(xmp: object) -> int | None:
    text = xmp.decode("latin-1") if isinstance(xmp, bytes) else xmp
    match = _FROM_XMP.search(text) if isinstance(text, str) else None
    return int(match[1]) if match else None
