"""The parts of the run, one module each with a `PART`, in the order in which they run: the most telling first."""

PARTS = (
    "device",
    "codec",
    "lloyd",
    "jpeg",
    "pipeline",
    "sd",
    "dit",
    "student",
    "matching",
    "clip",
    "augment",
    "labels",
    "tests",
)
