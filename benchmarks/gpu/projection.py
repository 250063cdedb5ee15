"""The hours that ImageNet-1K would take on the one device, from the figures of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu.record import Record

IMAGES, CLASSES = 1_281_167, 1000
IPCS = (10, 50, 100, 200)
FORMULA = f"""\
hours = ({IMAGES:,} / min(decode, encode) + {CLASSES:,} · lloyd + {CLASSES:,} · IPC / generate) / 3600

decode: JPEG files a second by the processor's threads, of files "{{photos}}".
encode: images a second by the VAE in bfloat16 as raycond runs it, at 256 px, for Stable Diffusion at 512 px.
lloyd: seconds a class of 1,300 images at IPC 10, 50, 100 and 200 together, which is more than one of them takes.
generate: images a second of the VAE's decoder at 256 px, of Stable Diffusion at 512 px, of DiT at 256 px.
All are the best of the tables below. Decoding and encoding are taken to overlap, which the part `pipeline` measures.
Reading from storage, writing the set and the start of the programs are left out."""


@dataclass(frozen=True)
class Kind:
    """A generator: the pixels and the latent numbers at which it works, and the figure that has its rate."""

    name: str
    size: int
    numbers: int
    figure: str


KINDS = (
    Kind("VAE", 256, 4096, "decode latents"),
    Kind("Stable Diffusion", 512, 16384, "sd"),
    Kind("DiT", 256, 4096, "dit"),
)


@dataclass(frozen=True)
class Hours:
    """Of one generator at one IPC. encode: until all images are encoded; bound: what limits that."""

    generator: str
    ipc: int
    encode: float
    bound: str
    quantize: float
    generate: float

    @property
    def total(self) -> float:
        return self.encode + self.quantize + self.generate

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total}


def photos(record: Record) -> str:
    """Which of the kinds of JPEG files the formula takes: those that are as large as ImageNet's."""
    kinds = {str(figure.setting["photos"]) for figure in record.figures("decode JPEG")}
    return next((kind for kind in sorted(kinds) if "as large as ImageNet's" in kind), "")


def projected(record: Record) -> Iterator[Hours]:
    """Hours of every generator and IPC for which the run has all figures."""
    decode = record.best("decode JPEG", photos=photos(record))
    for kind in KINDS:
        encode = record.best("encode", size=kind.size, dtype="bfloat16", changed="")
        lloyd = min(record.figures("lloyd", numbers=kind.numbers), key=lambda figure: figure.value, default=None)
        generate = record.best(kind.figure, size=kind.size)
        if decode is None or encode is None or lloyd is None or generate is None:
            continue
        slower, bound = min((decode.value, "decoding JPEG"), (encode.value, "encoding"))
        for ipc in IPCS:
            yield Hours(
                kind.name,
                ipc,
                IMAGES / slower / 3600,
                bound,
                CLASSES * lloyd.value / 3600,
                CLASSES * ipc / generate.value / 3600,
            )
