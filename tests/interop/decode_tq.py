"""A decoder of `.tq` version 0 written from docs/format.md alone, with numpy: reads a file into a dict of arrays.

    python tests/interop/decode_tq.py FILE.tq      prints the CRC-32 of all tensors' bytes in table order, as tests/golden_file/mod.rs has it

All arithmetic is float32 in the order that the page prescribes, so the bits are those of the Rust decoder.
"""

import json
import math
import struct
import sys
import zlib

import numpy as np

E = np.array([0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7, 0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7], np.uint32).view(np.float32)
DTYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def power(e):
    return np.float32(2.0) ** np.float32(e)


def step_size(c):
    return E[c % 8] * power(c // 8 - 24)


def scale_size(s):
    return power(-(s // 4)) if s % 4 == 0 else E[8 - 2 * (s % 4)] * power(-(s // 4) - 1)


def dct(kind, n):
    """The n-point transform of type 1 or 2: the float32 numbers nearest to the true ones."""
    s = np.ones((n, n), np.float32)
    for k, i in np.ndindex(n, n) if n > 1 else ():
        if kind == 1:
            ends = (0.5 if k in (0, n - 1) else 1) * (0.5 if i in (0, n - 1) else 1)
            value = math.sqrt(2 * ends / (n - 1)) * math.cos(math.pi * k * i / (n - 1)) if 2 * k * i % (2 * n - 2) != n - 1 else 0
        else:
            value = math.sqrt((2 if k else 1) / n) * math.cos(math.pi * k * (2 * i + 1) / (2 * n)) if k * (2 * i + 1) % (2 * n) != n else 0
        s[k, i] = value
    return s


class Bits:
    def __init__(self, body):
        self.bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
        self.at = 0

    def take(self, count, width):
        if width == 0 or count == 0:
            return np.zeros(count, np.int64)
        end = self.at + count * width
        assert end <= len(self.bits), "the section ends early"
        codes = self.bits[self.at : end].reshape(count, width) @ (1 << np.arange(width, dtype=np.int64))
        self.at = end
        return codes

    def one(self, width):
        return int(self.take(1, width)[0])


def layer(body, g, n, m, k, kernel):
    b = Bits(body)
    first, coding, e, blocks = b.one(8), b.one(8), b.one(16), b.one(8) + 1
    assert coding == 0 and first & 0xC0 == 0
    e -= 65536 if e >= 32768 else 0
    # KLT, then ELT, across channels; then within kernels type 1 and 2, KLT and ELT; then both sides.
    transform = ["none", "row", "col", "row", "col", "dct1", "dct2", "intra", "intra", "both"][first & 15]
    groups, known = g, transform in ("dct1", "dct2")
    stored = transform != "none" and not known
    if transform in ("dct1", "dct2", "intra"):
        dim, width, groups = k, g * n * m, 1
    elif transform == "both":
        second = min(m, n * k)
        dim, width = n, second * k
        assert g == 1
    else:
        dim, width = (m, n * k) if transform == "row" else (n, m * k)
    rank = dim if transform == "none" or known else min(dim, width)
    rows = groups * rank
    table = [(b.one(8), b.one(8)) + ((b.one(8), b.one(8)) if stored else (0, 0)) for _ in range(blocks)]
    v_depth, v_step = (b.one(8), b.one(8)) if transform == "both" else (0, 0)
    if stored and groups == 1:
        block_of = [r * blocks // rows for r in range(rows)]
    else:
        block_of = b.take(rows, (blocks - 1).bit_length())
    scales = [scale_size(int(s)) for s in b.take(rows, 6)] if first & 16 else [np.float32(1)] * rows
    v = None
    if transform == "both":
        v = (b.take(second * m, v_depth) - (1 << v_depth >> 1)).astype(np.float32).reshape(second, m) * step_size(v_step)
    t = np.zeros((groups, rank, width), np.float32)
    s = np.zeros((groups, rank, dim), np.float32)
    if known:
        down, across = (dct(int(transform[3]), side) for side in kernel)
        s[0] = (down[:, None, :, None] * across[None, :, None, :]).reshape(k, k)
    used = np.zeros((groups, rank), bool)
    for r in range(rows):
        depth, step, basis_depth, basis_step = table[block_of[r]]
        if depth == 0:
            continue
        at = divmod(r, rank)
        used[at] = True
        if stored:
            s[at] = (b.take(dim, basis_depth) - (1 << (basis_depth - 1))).astype(np.float32) * step_size(basis_step)
        t[at] = (b.take(width, depth) - (1 << (depth - 1))).astype(np.float32) * (step_size(step) * scales[r])
    assert len(b.bits) - b.at < 8 and not b.bits[b.at :].any()
    if transform == "none":
        x = t
    else:
        if transform == "both":
            y = np.zeros((groups, rank, m, k), np.float32)
            for l in range(second):
                y += v[l][None, None, :, None] * t.reshape(groups, rank, second, 1, k)[:, :, l]
            t, width = y.reshape(groups, rank, m * k), m * k
        x = np.zeros((groups, dim, width), np.float32)
        for i, r in zip(*np.nonzero(used)):
            x[i] += s[i, r][:, None] * t[i, r][None, :]
    half = int(e / 2)
    x = x * power(half) * power(e - half)
    if transform == "row":
        x = x.reshape(g, m, n, k).transpose(0, 2, 1, 3)
    elif known or transform == "intra":
        x = x.reshape(k, g, n, m).transpose(1, 2, 3, 0)
    return x.reshape(g, n, m, k), first & 32 != 0


def unfold(x, gamma, variance, epsilon):
    """Takes the batch norm after a layer out again."""
    s = gamma.astype(np.float32).reshape(x.shape[:2]) / np.sqrt(variance.astype(np.float32).reshape(x.shape[:2]) + np.float32(epsilon))
    top = np.abs(s).max()
    assert np.isfinite(s).all() and 2.0**-60 <= top <= 2.0**60, "the batch norm cannot be taken out"
    least = top / np.float32(4096)
    s = np.where((s != 0) & (np.abs(s) < least), np.copysign(least, s), s)[:, :, None, None]
    return np.divide(x, s, out=np.zeros_like(x), where=s != 0)


def load(path):
    data = open(path, "rb").read()
    assert data[:7] == b"\x89TQ\r\n\x1a\n" and data[7] == 0, "not a .tq of version 0"
    sections, at = [], 8
    while True:
        kind, length = chr(data[at]), struct.unpack_from("<I", data, at + 1)[0]
        end = at + 5 + length
        assert zlib.crc32(data[at:end]) == struct.unpack_from("<I", data, end)[0], f"the section at byte {at} is damaged"
        sections.append((kind, data[at + 5 : end]))
        at = end + 4
        if kind == "E":
            break
    assert at == len(data) and struct.unpack("<I", sections.pop()[1])[0] == len(sections)
    (_, meta), (_, _skeleton), (_, pool) = sections[:3]
    meta = json.loads(zlib.decompress(meta[8:], -15))
    rest, pooled, tensors, folded = iter(sections[3:]), 0, {}, []
    for t in meta["tensors"]:
        dtype, count = t["dtype"], int(np.prod(t["shape"], dtype=np.int64))
        size = dtype["other"] if isinstance(dtype, dict) else {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}[dtype]
        if t["place"] == "section":
            kind, body = next(rest)
            if kind == "L":
                q = t["role"]["layer"]
                x, is_folded = layer(body, q["groups"], q["outputs"], q["inputs"], q["taps"], ([1, 1] + t["shape"][2:])[-2:])
                assert is_folded == ("fold" in t)
                folded.append((t, x))
                tensors[t["name"]] = None  # its place; batch norms may come later
                continue
        else:
            length = count * (2 if t["place"] == "half" else size)
            body, pooled = pool[pooled : pooled + length], pooled + length
            if t["place"] == "half":
                tensors[t["name"]] = np.frombuffer(body, np.float16).astype(DTYPES[dtype]).reshape(t["shape"])
                continue
        kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
        tensors[t["name"]] = np.frombuffer(body, kind).reshape(t["shape"]) if kind else np.frombuffer(body, np.uint8)
    for t, x in folded:
        if "fold" in t:
            gamma, variance = (tensors[meta["tensors"][t["fold"][key]]["name"]] for key in ("scale", "variance"))
            x = unfold(x, gamma, variance, t["fold"]["epsilon"])
        x = x.transpose(0, 2, 1, 3) if t["role"]["layer"]["order"] == "inout" else x
        tensors[t["name"]] = np.ascontiguousarray(x).astype(DTYPES[t["dtype"]]).reshape(t["shape"])
    return tensors


if __name__ == "__main__":
    crc = 0
    for array in load(sys.argv[1]).values():
        crc = zlib.crc32(array.tobytes(), crc)
    print(f"{crc:#010x}")
