"""Train students on condensed sets and on baselines of real images, and compare: an evaluation grid on Ray Tune.

python pipelines/evaluate_grid.py --sets runs/digits/set
python pipelines/evaluate_grid.py --sets A B --students resnet18 convnet4 --ipc 1 10 50 --protocol rded --seeds 0 1 2
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
