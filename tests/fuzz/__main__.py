"""python -m tests.fuzz [--count N] [--reader NAME …] [--seed N] [--jobs N]: many damaged inputs for every reader.

Exit code 1 if there are findings. One input again: python -m tests.fuzz --reader NAME --seed S --first N --count 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from tests.fuzz.reader import all_readers
from tests.fuzz.run import Finding, run_chunk

CHUNK = 500


def main() -> int:
    readers = all_readers()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all, shared among the readers")
    parser.add_argument("--reader", nargs="+", choices=sorted(readers), default=sorted(readers))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    each = -(-options.count // len(options.reader))
    last = options.first + each
    chunks = [
        (name, options.seed, start, min(start + CHUNK, last))
        for start in range(options.first, last, CHUNK)
        for name in options.reader
    ]
    done: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    findings: list[Finding] = []
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run_chunk, *chunk): chunk for chunk in chunks}
        for future in as_completed(waiting):
            try:
                taken, found = future.result()
            except BrokenProcessPool:
                print(
                    f"a process crashed (its trace is above) in one of {sorted(waiting.values())[: 4 * options.jobs]}"
                )
                return 2
            name, _, start, stop = waiting.pop(future)
            done[name] += stop - start
            seconds[name] += taken
            findings += found
            for finding in found:
                print(f"{finding.reader} {finding.number}: {finding.error}", flush=True)
    kinds = Counter(finding.reader for finding in findings)
    for name in options.reader:
        print(f"{name:14} {done[name]:>9} inputs  {kinds[name]:>5} findings  {seconds[name]:7.0f} s")
    print(f"{'all':14} {done.total():>9} inputs  {len(findings):>5} findings  seed {options.seed}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
