"""A run on a head without CPUs and two nodes, one of which is taken away in the middle: python -m … DATA OUT."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

os.environ["RAY_AUTH_MODE"] = "disabled"

import ray
from ray.cluster_utils import Cluster

from raycond.pipelines.quantize.run import quantize
from tests.pipelines.quantize.make import config


def main(data: str, out: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    lost: list[bool] = []

    def lose() -> None:
        while not list(Path(out).glob("work/codebooks/ipc1/*.json")):
            time.sleep(0.01)
        cluster.remove_node(nodes[0], allow_graceful=False)
        lost.append(True)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    run = quantize(config(Path(data), out, runner="ray", restarts=300))
    thread.join()
    assert lost
    assert not run.failures, run.failures
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
