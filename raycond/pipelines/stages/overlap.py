"""The stage that looks for validation images among the training images, once for the same two listings."""

from __future__ import annotations

from raycond.core import records
from raycond.data.overlap import ALLOWED, Overlap, overlap
from raycond.data.rows import RowSource


def require_disjoint(
    val: RowSource, train: RowSource, *, val_digest: str, train_digest: str, record: str, allow: bool
) -> Overlap:
    """How many of the validation images are trained on too, byte for byte, by a sample of them.

    val_digest, train_digest: of what the two list. record: where the completion record lies. Raises UserError for more
    than 1 %, unless that is allowed.
    """
    expected = records.fingerprint(stage="overlap", val=val_digest, train=train_digest)
    facts = records.find(record, expected)
    if facts is None:
        seen = overlap(val, train)
        examples = [list(pair) for pair in seen.examples]
        records.finish(record, expected, None, checked=seen.checked, shared=seen.shared, examples=examples)
    else:
        seen = Overlap(facts["checked"], facts["shared"], tuple((a, b) for a, b in facts["examples"]))
    if not allow:
        seen.require_at_most(ALLOWED, "validation images are training images too", "--allow-overlap")
    return seen
