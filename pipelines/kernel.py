"""Condense an image set by kernel ridge regression with infinitely wide networks: KIP and Label Solve.

python pipelines/kernel.py --preset mnist --kernel fc1 --data /data/mnist
ray submit cluster.yaml pipelines/kernel.py -- --preset cifar10 --data s3://… --out s3://…
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["kernel", *sys.argv[1:]]))
