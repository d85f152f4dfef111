"""Weights that nobody has to store: element `i` of the tensor with seed `s` is `centre + amplitude·u(s, i)` in f32 arithmetic, where `u`
is uniform in [−1, 1) on 24 bits. The other implementation is `value` in tests/networks.rs; both must give the same bits."""

import zlib

import numpy as np


def uniform(seed, count, start=0):
    """`u(seed, start), …`: the top bits of SplitMix64's output function at counter `seed·2³² + i`."""
    with np.errstate(over="ignore"):
        z = (np.uint64(seed << 32) + np.arange(start, start + count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def tensor(seed, shape, centre=0.0, amplitude=1.0):
    """A tensor. In pieces, for the dense layers of VGG."""
    out = np.empty(int(np.prod(shape)), np.float32)
    for start in range(0, out.size, 1 << 20):
        piece = out[start : start + (1 << 20)]
        piece[:] = np.float32(centre) + np.float32(amplitude) * uniform(seed, piece.size, start)
    return out.reshape(shape)


def seed_of(case):
    """Seed of a case's input; its tensors have the following ones."""
    return zlib.crc32(case.encode()) >> 1


def digits(x, n=4):
    """Rounded to so many digits: what goes into a manifest, and does not depend on the last bit of some library."""
    return float(f"{float(x):.{n}g}")
