"""Would it pay to store orthogonal bases by n(n−1)/2 angles? KLTs of a model's 3×3 layers, their numbers quantized as `.tq` files have them,
against their angles (Givens rotations), at equal weight error.

    python tests/interop/angles.py MODEL.npz       arrays of outputs × inputs × height × width; needs numpy

By high-rate theory: a coefficient takes ½ log₂ of its variance, weighed by the squared norm of its basis vector, over the water level, which is that of
the layer without a transform at 2, 3 and 4 bits; a basis takes the entropy of its indices and what learning their distribution costs. The best step
for each. Coefficients are those of the least squared error for the basis as it was quantized.
"""

import sys

import numpy as np


def entropy(q):
    counts = np.unique(q, return_counts=True)[1]
    p = counts / counts.sum()
    return -counts.sum() * (p * np.log2(p)).sum() + 0.5 * len(counts) * np.log2(max(counts.sum(), 2))


def angles(s):
    """Angles of the rotations that take the columns of a basis to unit vectors, and the signs that are left."""
    a, found = s.copy(), []
    n, r = a.shape
    for k in range(r):
        for i in range(n - 1, k, -1):
            t = np.arctan2(a[i, k], a[i - 1, k])
            t -= np.pi * (t > np.pi / 2) - np.pi * (t <= -np.pi / 2)
            c, d = np.cos(t), np.sin(t)
            a[i - 1], a[i] = c * a[i - 1] + d * a[i], c * a[i] - d * a[i - 1]
            found.append(t)
    return np.array(found), np.sign(np.diag(a[:r]))


def rotated(found, signs, n):
    """The basis of these angles."""
    r = len(signs)
    a = np.zeros((n, r))
    a[np.arange(r), np.arange(r)] = signs
    j = len(found)
    for k in range(r - 1, -1, -1):
        for i in range(k + 1, n):
            j -= 1
            c, d = np.cos(found[j]), np.sin(found[j])
            a[i - 1], a[i] = c * a[i - 1] - d * a[i], d * a[i - 1] + c * a[i]
    return a


def coefficients(s, x, level, least):
    """Bits of the coefficients under a basis; what it misses of `x` beyond `least` at the slope of the water level."""
    t = np.linalg.lstsq(s, x, rcond=None)[0]
    variance = (t**2).mean(1) * (s**2).sum(0)
    missed = max(((x - s @ t) ** 2).sum() - least, 0) / (2 * np.log(2) * level)
    return np.maximum(0.5 * x.shape[1] * np.log2(np.maximum(variance, 1e-30) / level), 0).sum() + missed


def layer(x, bits):
    """Bits without a transform; with the KLT, by numbers and by angles: in all, and of the basis."""
    n, width = x.shape
    values, s = np.linalg.eigh(x @ x.T)
    values, s = values[::-1], s[:, ::-1]
    level = (x**2).mean() * 2.0 ** (-2 * bits)
    none = coefficients(np.eye(n), x, level, 0)
    r = max(int((values / width > level).sum()), 1)
    found, signs = angles(s)
    assert np.allclose(rotated(found, signs, n), s)
    found, signs = found[: n * r - r * (r + 1) // 2], signs[:r]
    best = [(np.inf, 0), (np.inf, 0)]
    for step in 2.0 ** -np.arange(2, 11, 0.5):
        q, a = np.rint(s[:, :r] / step), np.rint(found / step)
        for how, (basis, size) in enumerate([(q * step, entropy(q)), (rotated(a * step, signs, n), entropy(a) + r)]):
            if (basis != 0).any(0).all():
                best[how] = min(best[how], (size + coefficients(basis, x, level, values[r:].sum()), size))
    return [none, best[0][0], best[1][0], best[0][1], best[1][1], min(none, best[0][0]) - min(none, best[1][0])]


def main():
    weights = np.load(sys.argv[1])
    layers = [w.astype(float) for w in (weights[name] for name in weights.files) if w.ndim == 4 and w.shape[2] == 3 and min(w.shape[:2]) >= 8]
    count = sum(w.size for w in layers)
    for side, axes in (("row", (1, 0, 2, 3)), ("column", (0, 1, 2, 3))):
        for bits in (2, 3, 4):
            sums = sum(np.array(layer(np.transpose(w, axes).reshape(w.shape[axes[0]], -1), bits)) for w in layers) / count
            none, numbers, by_angles, basis, basis_angles, gain = sums
            print(f"{side} KLT, {bits} bits: none {none:.3f}, numbers {numbers:.3f} (basis {basis:.3f}), angles {by_angles:.3f} (basis {basis_angles:.3f}); "
                  f"{gain:.4f} fewer where the better of none and KLT is taken in each layer")


if __name__ == "__main__":
    main()
