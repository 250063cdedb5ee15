"""Check and measure every GPU path of raycond on one CUDA device, in one command that needs no ray, faiss or network.

    python -m benchmarks.gpu --out DIR [--budget SECONDS] [--only NAME …] [--carry FOLDER] [--tiny]

DIR/gpu.json and DIR/GPU.md are written anew after every part, so that a run that is cut short leaves what it had. The
exit code is 1 if a check or a part failed and 2 if nothing could be run. `--tiny` runs all parts with miniature models
on the CPU: it shows that the command works, and measures nothing. `python -m benchmarks.gpu.results DIR` puts the
tables of a finished run into benchmarks/RESULTS-GPU.md, under the name of the device.

The machine has Python 3.11 or later, torch 2.11 or later, torchvision, transformers, timm, safetensors, fsspec, Pillow
and PyYAML. Without pyarrow the parts jpeg, pipeline and clip are skipped; scikit-learn, SciPy and pytest serve the
tests marked `gpu`. What else raycond imports comes as wheels in the folder of `--carry`: diffusers, open_clip_torch
with ftfy and wcwidth, pydantic with pydantic_core, annotated_types, typing_inspection and typing_extensions,
importlib_metadata with zipp; 11 MiB. Where there is a network,

    python -m benchmarks.gpu.carry FOLDER [--images JPEGS]

fills such a folder for Python 3.12 on x86-64, in the versions of constraints.txt, with JPEG files of the folder JPEGS
beside the wheels. It runs

    pip download --no-deps --only-binary=:all: --implementation cp --python-version 3.12 \\
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \\
        -c constraints.txt -d FOLDER/wheels NAME …

`benchmarks.gpu` unpacks the wheels into a temporary folder; nothing is installed. What is found neither on the machine
nor in the folder is listed in the results, and the parts that need it are named as skipped.

A part is one module of `benchmarks.gpu.parts`; its `PART` says what it does and how long it takes, and `PARTS` in
`benchmarks/gpu/parts/__init__.py` lists the modules in the order in which they run, the most telling first.
"""
