"""Fit a label projector (HeLlO: a low-rank delta on CLIP) that gives soft labels for any view of any image.

python pipelines/fit_projector.py --preset digits --out runs/digits-projector
python pipelines/evaluate_grid.py --sets runs/digits/set --labeler projector:runs/digits-projector --set loss=mse+ce \\
    --out runs/digits/grid-projector
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["fit-projector", *sys.argv[1:]]))
