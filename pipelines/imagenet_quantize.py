"""Condense an image set: per-class latent quantization with weights (DDOQ) or without (presets `ddoq` and `d4m`).

python pipelines/imagenet_quantize.py --preset digits
ray submit cluster.yaml pipelines/imagenet_quantize.py -- --preset imagenet --data s3://… --out s3://…
"""

import sys

from raycond.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["quantize", *sys.argv[1:]]))
