"""Train a small latent diffusion transformer (DiT) on an image set, as a generator for imagenet_quantize.py.

python pipelines/train_generator.py --preset digits --out runs/digits-dit
python pipelines/imagenet_quantize.py --preset digits --generator dit:runs/digits-dit --out runs/digits-by-dit
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train-generator", *sys.argv[1:]]))
