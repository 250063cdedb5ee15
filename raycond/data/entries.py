"""Which files in a folder may be images, and which folders are not part of the data."""

from __future__ import annotations

from collections.abc import Mapping

from raycond.core import files
from raycond.core.errors import UserError
from raycond.core.retry import retrying
from raycond.core.text import visible

# Endings of images, by which folders with images are recognized. They do not decide what is read.
_IMAGES = frozenset(
    [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "apng",
        "webp",
        "bmp",
        "dib",
        "gif",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
        "avif",
        "heic",
        "heif",
        "jp2",
        "jxl",
    ]
)

# Endings of what lies beside images: such files are not taken for images, and not recorded as bad ones. Everything else
# is, because an image may have any ending or none (x.jpg?size=200, 000123).
_OTHERS = frozenset(
    [
        "txt",
        "csv",
        "tsv",
        "md",
        "rst",
        "html",
        "htm",
        "css",
        "js",
        "json",
        "jsonl",
        "xml",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "conf",
        "log",
        "url",
        "db",
        "sqlite",
        "pdf",
        "doc",
        "docx",
        "xls",
        "xlsx",
        "py",
        "ipynb",
        "sh",
        "bat",
        "c",
        "h",
        "cpp",
        "java",
        "lst",
        "lmdb",
        "mdb",
        "npy",
        "npz",
        "mat",
        "h5",
        "hdf5",
        "pkl",
        "pickle",
        "pt",
        "pth",
        "ckpt",
        "onnx",
        "safetensors",
        "bin",
        "part",
        "parquet",
        "arrow",
        "feather",
        "tfrecord",
        "record",
        "tar",
        "tgz",
        "gz",
        "bz2",
        "xz",
        "zst",
        "zip",
        "7z",
        "rar",
        "md5",
        "sha1",
        "sha256",
        "sfv",
        "asc",
        "sig",
        "license",
        "lock",
        "mp3",
        "wav",
        "flac",
        "ogg",
    ]
)
_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "authors", "changelog", "makefile", "thumbs.db"}
)

# Folders that systems, thumbnailers and programs make. Hidden ones (.git, .thumbnails) are never listed.
_SYSTEM = frozenset(
    [
        "__macosx",
        "@eadir",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "recycler",
        "lost+found",
        "__pycache__",
        "thumbnails",
        "_thumbnails",
        "_thumbs",
        "node_modules",
        "lightning_logs",
        "wandb",
        "mlruns",
    ]
) | {"system volume information", "network trash folder", "temporary items"}


def ending(name: str) -> str:
    return name.rpartition(".")[2].lower() if "." in name else ""


def has_image_ending(name: str) -> bool:
    return ending(name) in _IMAGES


def may_be_image(name: str) -> bool:
    """Whether a file in a class folder is taken for an image: only its content can say whether it is one."""
    return ending(name) not in _OTHERS and name.lower() not in _NAMES


def is_system(name: str) -> bool:
    return name.lower() in _SYSTEM


def is_run(names: Mapping[str, bool]) -> bool:
    """Whether a folder with these names, and whether each is a folder, is a run that raycond left."""
    return names.get("config.json") is False and any(names.get(name) for name in ("work", "set"))


def may_be_condensed(names: Mapping[str, bool]) -> bool:
    """Whether a folder with these names may be a condensed set; its manifest must say so."""
    return names.get("manifest.json") is False and names.get("data") is True


def listed(uri: str) -> list[files.Entry]:
    """`files.listdir`, tried again on passing errors. Raises UserError if the folder cannot be listed."""
    try:
        return retrying(lambda: files.listdir(uri))
    except OSError as error:
        text = error.strerror or str(error)
        raise UserError(
            f"{visible(uri)}: the folder cannot be listed ({text}); check that it exists and may be read"
        ) from error
