"""The stage that looks for validation images among the training images, once for the same two listings."""

from __future__ import annotations

import sys
from dataclasses import replace

from raycond.core import records
from raycond.data.overlap import ALLOWED, Overlap, looks_alike, overlap
from raycond.data.rows import RowSource
from raycond.pipelines.layout import GridLayout
from raycond.pipelines.stages.listing import class_fingerprints, source_digest


def require_unseen(
    val: RowSource, train: RowSource, *, train_digest: str, out: str, allow: bool
) -> tuple[str, Overlap]:
    """`require_disjoint` before the work of a run, whose evaluation then finds the record; the digest of what `val`
    lists, and the overlap."""
    val_digest = source_digest(class_fingerprints(val, "list val"))
    record = GridLayout(out).overlap
    return val_digest, require_disjoint(
        val, train, val_digest=val_digest, train_digest=train_digest, record=record, allow=allow
    )


def require_disjoint(
    val: RowSource, train: RowSource, *, val_digest: str, train_digest: str, record: str, allow: bool
) -> Overlap:
    """How many of the validation images are trained on too, byte for byte or as copies, by a sample of them.

    val_digest, train_digest: of what the two list. record: where the completion record lies. Raises UserError for more
    than 1 % of the same files, unless that is allowed; prints a warning where many look the same.
    """
    expected = records.fingerprint(stage="overlap", copies=True, val=val_digest, train=train_digest)
    facts = records.find(record, expected)
    if facts is None:
        seen = overlap(val, train)
        compared, alike = looks_alike(val, train)
        seen = replace(seen, compared=compared, alike=alike)
        records.finish(record, expected, None, **{**vars(seen), "examples": [list(pair) for pair in seen.examples]})
        if seen.copies:
            print(f"WARNING    {seen.of_copies}", file=sys.stderr)
    else:
        seen = Overlap(**{**facts, "examples": tuple((a, b) for a, b in facts["examples"])})
    if not allow:
        seen.require_at_most(ALLOWED, "validation images are training images too", "--allow-overlap")
    return seen
