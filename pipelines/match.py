"""Optimize a small image set by matching gradients or features: DC, DSA, DM or IDC, with DREAM's sampling if asked for.

python pipelines/match.py --preset mnist --data DIR/mnist --method dc --ipc 1
python pipelines/match.py --preset cifar10 --data DIR/cifar10 --method idc --sampling dream --factor 2 --ipc 10
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["match", *sys.argv[1:]]))
