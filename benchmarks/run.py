"""The benchmarks that need no run of their own, one after another: `make bench`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import generators, grid, labels, memory, published, quantizer, throughput, training, writing

if __name__ == "__main__":
    for benchmark in (quantizer, throughput, memory, writing, training, generators, labels, grid, published):
        print(f"\n## {benchmark.__name__}\n", flush=True)
        benchmark.main()
