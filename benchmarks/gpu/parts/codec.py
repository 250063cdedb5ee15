"""The codecs on the device: against the CPU, and how fast a VAE of Stable Diffusion's size encodes and decodes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.context import Context, full_float32, relative_error
from benchmarks.gpu.facts import nominal_peak
from benchmarks.gpu.models import autoencoder_kl, autoencoder_tiny
from benchmarks.gpu.part import Part
from benchmarks.gpu.photos import pictures
from benchmarks.gpu.record import Setting
from raycond.models.codecs.base import Codec
from raycond.models.codecs.registry import open_codec

# largest relative error against float32 on the CPU: of sums in another order; of factors of 10 bits of mantissa in
# convolutions, as torch sets cuDNN; of numbers of 7 bits throughout, which come to 0.014 (encode) and 0.034 (decode) on
# a CPU
FLOAT32, TF32, BF16 = 1e-4, 1e-2, 8e-2


@dataclass(frozen=True)
class Sizes:
    """check: pixels a side. encode: pixels a side → batches. decode: batches, at the first of these sizes."""

    check: int
    encode: dict[int, tuple[int, ...]]
    decode: tuple[int, ...]


FULL = Sizes(128, {256: (1, 8, 32, 64, 128), 512: (1, 8, 16, 32)}, (1, 8, 32, 64))
TINY = Sizes(32, {256: (1, 2), 512: (1,)}, (1, 2))


def run(context: Context) -> None:
    sizes = TINY if context.tiny else FULL
    for spec in (f"kl:{autoencoder_kl(context)}", f"tiny:{autoencoder_tiny(context)}", "pixels"):
        _check(context, spec, sizes.check)
    measured = _Encoding(context, f"kl:{autoencoder_kl(context)}")
    for size, batches in sizes.encode.items():
        measured.batches(size, batches)
    _decode(context, sizes)
    measured.variants({size: batches[-2] for size, batches in sizes.encode.items() if len(batches) > 1})


# ---- checks


def _check(context: Context, spec: str, size: int) -> None:
    kind = spec.partition(":")[0]
    images = pictures(2, size)
    reference = open_codec(spec, device="cpu", dtype="float32")
    latents = reference.encode(images)
    expected = {"encode": latents, "decode": reference.decode(latents)}
    if kind == "kl":
        expected["encode, posterior sampled"] = reference.encode(images, [3, 4])

    def compare(name: str, dtype: str, limit: float) -> None:
        codec = open_codec(spec, device=str(context.device), dtype=dtype)
        actual = {"encode": codec.encode(images), "decode": codec.decode(latents)}
        if kind == "kl":
            actual["encode, posterior sampled"] = codec.encode(images, [3, 4])
        for what, tensor in actual.items():
            context.check(f"{kind}, {what}, {name}", relative_error(tensor, expected[what]), limit, "relative error")

    with full_float32():
        compare("float32", "float32", FLOAT32)
    if kind != "pixels":  # which are float32 whatever is asked for
        compare("float32 with TF32 convolutions", "float32", TF32)
        compare("bfloat16", "bfloat16", BF16)


# ---- encode


PLAIN: Setting = {"dtype": "bfloat16", "layout": "channels last", "changed": ""}  # as raycond encodes on a GPU


class _Encoding:
    """Images per second of `Codec.encode`, from uint8 on the device to latents on the device."""

    def __init__(self, context: Context, spec: str) -> None:
        self.context, self.spec = context, spec
        self.flops: dict[int, int] = {}  # pixels a side → operations for one image
        self.codec = self.opened("bfloat16")

    def opened(self, dtype: str) -> Any:
        return open_codec(self.spec, device=str(self.context.device), dtype=dtype)

    def pixels(self, size: int) -> int:
        return size // 8 if self.context.tiny else size

    def batches(self, size: int, batches: tuple[int, ...]) -> None:
        measure = partial(self.measure, PLAIN, self.codec.encode, size)
        self.context.sweep(f"encode at {size} px, batch", batches, measure)

    def measure(self, how: Setting, encode: Callable[[Tensor], Tensor], size: int, batch: int) -> None:
        context = self.context
        images = pictures(batch, self.pixels(size), context.device)
        with context.memory() as memory:
            seconds = context.seconds(lambda: encode(images))
        rates = [batch / one for one in seconds]
        beside = self.shares(size, statistics.median(rates)) if how["dtype"] == "bfloat16" else {}
        context.figure("encode", "images/s", rates, {"size": size, "batch": batch, **how}, {**beside, **memory})

    def shares(self, size: int, rate: float) -> dict[str, float]:
        """Operations per second, and what share they are of those of a large matrix product and of the data sheet's."""
        if size not in self.flops:
            with FlopCounterMode(display=False) as counter:
                self.codec.encode(pictures(1, self.pixels(size), self.context.device))
            self.flops[size] = counter.get_total_flops()
        done, nominal = self.flops[size] * rate, nominal_peak(self.context.device)
        shares = {"TFLOP/s": done / 1e12, "share of measured peak": done / statistics.median(self.context.peak)}
        return {**shares, "share of nominal peak": done / nominal} if nominal else shares

    def variants(self, batches: dict[int, int]) -> None:
        """The same at one batch of each size, with one thing changed; what compiles comes last, as it may take long."""
        changes: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
            "cuDNN's benchmark": self._benchmarked,
            "contiguous": self._contiguous,
            "float32": lambda: self.opened("float32").encode,
            "compiled": self._compiled,
        }
        for name, change in changes.items():
            try:
                self._variant(name, change(), batches)
            except torch.OutOfMemoryError:
                self.context.note(f"encode, {name}: does not fit into the device's memory")
            except Exception as error:
                if name != "compiled":
                    raise
                self.context.note(f"torch.compile of the encoder fails: {type(error).__name__}: {error}")
            finally:
                torch.backends.cudnn.benchmark = False
                self.context.free()

    def _variant(self, name: str, encode: Callable[[Tensor], Tensor], batches: dict[int, int]) -> None:
        also = {"float32": {"dtype": name}, "contiguous": {"layout": name}}.get(name, {})
        for size, batch in batches.items():
            if self.context.has(45 if name == "compiled" else 5, f"encode at {size} px, {name}"):
                self.measure({**PLAIN, "changed": name, **also}, encode, size, batch)

    def _benchmarked(self) -> Callable[[Tensor], Tensor]:
        torch.backends.cudnn.benchmark = True
        encode: Callable[[Tensor], Tensor] = self.codec.encode
        return encode

    def _contiguous(self) -> Callable[[Tensor], Tensor]:
        """What `Codec.encode` does, without channels last."""
        model = self.opened("bfloat16")._model.to(memory_format=torch.contiguous_format)

        @torch.inference_mode()
        def encode(images: Tensor) -> Tensor:
            x = (images.float() / 255).to(torch.bfloat16) * 2 - 1
            latents: Tensor = model.encode(x).latent_dist.mode().float()
            return latents

        return encode

    def _compiled(self) -> Callable[[Tensor], Tensor]:
        codec = self.opened("bfloat16")
        backend = "eager" if self.context.tiny else "inductor"
        codec._model.encoder = torch.compile(codec._model.encoder, backend=backend, dynamic=False)
        encode: Callable[[Tensor], Tensor] = codec.encode
        return encode


# ---- decode


def _decode(context: Context, sizes: Sizes) -> None:
    """Images per second of `Codec.decode`, from latents to images on the device."""
    codec = open_codec(f"kl:{autoencoder_kl(context)}", device=str(context.device), dtype="bfloat16")
    size = next(iter(sizes.encode))
    shape = codec.latent_shape(size // 8 if context.tiny else size)
    context.sweep(f"decode at {size} px, batch", sizes.decode, partial(_decoded, context, codec, shape, size))


def _decoded(context: Context, codec: Codec, shape: tuple[int, ...], size: int, batch: int) -> None:
    latents = torch.randn(batch, *shape, device=context.device)
    with context.memory() as memory:
        seconds = context.seconds(lambda: codec.decode(latents))
    rates = [batch / one for one in seconds]
    context.figure("decode latents", "images/s", rates, {"size": size, "batch": batch, "dtype": "bfloat16"}, memory)


PART = Part("VAE encode and decode", seconds=110, least=30, run=run)
