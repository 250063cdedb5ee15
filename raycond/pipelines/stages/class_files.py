"""A stage that makes one file of each class: find what is missing or stale, make only that, account for bad images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from raycond.core import files, records
from raycond.core.errors import RaycondError, UserError, is_full
from raycond.core.progress import Progress
from raycond.data.class_arrays import ArrayFiles
from raycond.data.quarantine import BadRecord
from raycond.data.sources import Source
from raycond.runtime.resources import Resources
from raycond.runtime.runner import Runner


class ClassSpec(Protocol):
    """A stage that makes one file of each class: all that doing it on any node needs; small and picklable."""

    @property
    def source(self) -> Source: ...

    @property
    def stage(self) -> str:
        """The name of the stage in progress lines."""
        ...

    @property
    def resources(self) -> Resources:
        """What making the file of one class asks for."""
        ...

    def place(self, label: int) -> str:
        """Where the file of a class lies."""
        ...

    def expected(self, label: int, images: str) -> str:
        """The fingerprint of the file of a class; `images` is the fingerprint of its image references."""
        ...

    @property
    def work(self) -> Callable[[Any], dict[str, Any]]:
        """A function that takes (spec, label, images, device), makes the file and returns its facts."""
        ...


@dataclass
class ClassFiles:
    """The file of every class, what each was made of, the images left out, and how many classes ran now."""

    found: ArrayFiles
    facts: list[dict[str, Any]]
    bad: set[BadRecord] = field(default_factory=set)
    computed: int = 0

    @property
    def images(self) -> int:
        return sum(int(facts["images"]) for facts in self.facts)

    @property
    def digest(self) -> str:
        return files.digest([facts["sha256"] for facts in self.facts])


def finished(spec: ClassSpec, fingerprints: Sequence[str]) -> list[dict[str, Any] | None]:
    """The facts of every class's file, None where it is missing or stale. fingerprints: of the classes."""

    def one(label: int) -> dict[str, Any] | None:
        return records.find(spec.place(label), spec.expected(label, fingerprints[label]))

    with ThreadPoolExecutor(records.IO_THREADS) as pool:
        return list(pool.map(one, range(len(fingerprints))))


def make_class_files(make_runner: Callable[[], Runner], spec: ClassSpec, fingerprints: Sequence[str]) -> ClassFiles:
    """The file of every class, computed where no valid record says it exists; the runner is made only if one is.

    Raises RaycondError, with every class that failed, when the others are done.
    """
    facts = finished(spec, fingerprints)
    missing = [label for label, known in enumerate(facts) if known is None]
    failures = []
    if missing:
        runner = make_runner()
        device = runner.device(spec.resources)
        items = [(spec, label, fingerprints[label], device) for label in missing]
        with Progress(spec.stage, len(facts), "classes", done=len(facts) - len(missing)) as progress:
            for position, result in runner.tasks(spec.work, items, spec.resources):
                label = missing[position]
                if isinstance(result, Exception):
                    if is_full(result):
                        raise result
                    failures.append(_failure(spec, label, result))
                else:
                    facts[label] = result
                progress.step(1, spec.source.classes.names[label])
    if failures:
        raise RaycondError("\n".join(sorted(failures)))
    whole = [known for known in facts if known is not None]
    uris = tuple(spec.place(label) for label in range(len(whole)))
    if missing and not files.exists(uris[missing[0]]):
        raise UserError(
            f"--out: a worker wrote {uris[missing[0]]} and it is not to be seen from here; "
            "give a folder or address that every node reaches"
        )
    found = ArrayFiles(uris, tuple(known["rows"] for known in whole), tuple(whole[0]["shape"]))
    bad = {BadRecord(*row) for known in whole for row in known["bad"]} | set(spec.source.bad)
    return ClassFiles(found, whole, bad, len(missing))


def _failure(spec: ClassSpec, label: int, error: Exception) -> str:
    text = str(error) if isinstance(error, RaycondError) else f"{type(error).__name__}: {error}"
    name = f"class {spec.source.classes.ids[label]}"
    return text if text.startswith(name) else f"{name}: {text}"
