"""Jobs and results cross to other machines as text and come back as they were."""

from __future__ import annotations

from raycond.data.quarantine import BadRecord
from raycond.pipelines.quantize.units import ClassJob, Result


def test_job_survives_json() -> None:
    job = ClassJob(3, {1: "f", 10: "g"}, {"vae": [1, 10]}, {50: {"sha256": "s", "content": "c"}})
    assert ClassJob.from_json(job.to_json()) == job


def test_result_survives_json() -> None:
    bad = [BadRecord("a/1", 3, "a", "/a/1", "empty")]
    result = Result(3, {10: {"sha256": "s", "distortion": 0.1 + 0.2}}, bad, 1.25, "what\nfailed")
    assert Result.from_json(result.to_json()) == result
