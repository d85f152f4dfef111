"""Writes the model that the golden files `kernels-….tq` are made of:

    python tests/golden_file/kernels.py kernels.npz
    waterfill compress kernels.npz -o kernels-TRANSFORM.tq --bits 5 --transform TRANSFORM --blocks 3
    python docs/tq.py kernels-TRANSFORM.tq      (the checksum in mod.rs)

Kernels of several sides, one axis, and none; channels fewer and more than the rank; three axes, and 16-bit floats.
"""

import sys

import numpy as np

rng = np.random.default_rng(7)


def layer(*shape):
    x = rng.normal(size=shape) ** 3
    return (x + x.mean(axis=0, keepdims=True) + 0.5 * np.roll(x, 1, axis=-1)).astype(np.float32)


np.savez(
    sys.argv[1],
    conv=layer(6, 4, 3, 5),
    depthwise=layer(6, 1, 5, 2),
    dense=layer(8, 12),
    line=layer(5, 3, 4),
    wide=layer(3, 20, 1, 2),
    deep=layer(3, 2, 2, 2, 2),
    tall=layer(20, 2, 2, 1).astype(np.float16),
)
