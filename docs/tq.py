"""Reads `.tq` files, versions 0 and 1, with numpy and nothing else: a dict of arrays by the names of the tensors.

    import torch, tq
    weights = {name: torch.from_numpy(array.copy()) for name, array in tq.load("model.tq").items()}
    model.load_state_dict(weights)

Written from docs/format.md; all arithmetic is in integers, or in float32 in the order that the page prescribes, so the bits are those of the
Rust decoder (tests/decoder.rs). Adaptively coded indices are slow here: `waterfill decompress` is for large files.

    python docs/tq.py FILE.tq …      prints the CRC-32 of all tensors' bytes in table order, as tests/golden_file/mod.rs has it
"""

import json
import math
import struct
import sys
import zlib

import numpy as np

E = np.array([0x3F800000, 0x3F8B95C2, 0x3F9837F0, 0x3FA5FED7, 0x3FB504F3, 0x3FC5672A, 0x3FD744FD, 0x3FEAC0C7], np.uint32).view(np.float32)
DTYPES = {"f16": np.float16, "bf16": np.uint16, "f32": np.float32, "f64": np.float64}


def power(e):
    return np.float32(2.0) ** np.float32(min(max(e, -126), 127))


def step_size(c):
    return E[c % 8] * power(c // 8 - 24)


def scale_size(s):
    return power(-(s // 4)) if s % 4 == 0 else E[8 - 2 * (s % 4)] * power(-(s // 4) - 1)


def gain_sizes(coarseness, codes):
    parts = [code << coarseness for code in codes]
    assert coarseness <= 7 and all(-2048 <= p <= 2048 for p in parts), "a gain is out of range"
    nearest = lambda i, n: np.float32(2.0 ** (i / n))
    return np.array([nearest(p % 256 // 8, 32) * nearest(p % 8, 256) * power(p // 256) for p in parts], np.float32)


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


# Adaptive coding. 65536 / (1 + e^(-x/2)) for x from -16 to 16:
LOGISTIC = [22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565]
LOGISTIC += [62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514]


def squash(logit):
    i, part = divmod(logit + 2048, 128)
    return min(max((LOGISTIC[i] * (128 - part) + LOGISTIC[i + 1] * part + 64) >> 7, 32), 65504)


SQUASH = [squash(logit) for logit in range(-2048, 2048)]
# The least logit whose probability is at least that of the step's middle.
STRETCH = (np.searchsorted(SQUASH[1:-1], np.arange(8, 65536, 16)) - 2047).tolist()
RATES = [(1 << 12) * 5 // (5 * n + 8) for n in range(256)]
MASK = (1 << 64) - 1


def new_bit():
    return [1 << 19, 0]  # estimate in 2^-20, seen


def update(bit, decision, limit=255):
    estimate, seen = bit
    flip = (1 << 20) - 1 if decision else 0
    rest = estimate ^ flip
    bit[0] = rest - (rest * RATES[seen] >> 12) ^ flip
    bit[1] = min(seen + 1, limit)


def class_of(v, classes):
    if v == 0:
        return 0
    octave = v.bit_length() - 1
    return min(1 + 2 * octave + (v >> (octave - 1) & 1 if octave else 0), classes - 1)


class Range:
    """The range decoder from the start, raw bits from the end, and decisions with probabilities of their own."""

    def __init__(self, data):
        self.data, self.at, self.range = data + bytes(8), 8, MASK
        self.length, self.taken = len(data), 0  # bytes, raw bits
        self.code = int.from_bytes(self.data[:8], "big")

    def split(self, bound):
        bit = self.code < bound
        if bit:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        if self.range < 1 << 32:
            word = self.data[self.at : self.at + 4]
            self.code = (self.code << 32 | int.from_bytes(word, "big") << 8 * (4 - len(word))) & MASK
            self.range <<= 32
            self.at += 4
        return bit

    def raw(self, count):
        value = 0
        for _ in range(count):
            at = self.length - 1 - self.taken // 8
            value = value << 1 | (self.data[at] >> 7 - self.taken % 8 & 1 if at >= 0 else 0)
            self.taken += 1
        return value

    def at_end(self):
        return self.at + (self.taken + 7) // 8 >= self.length

    def single(self, bit):
        decision = self.split((self.range >> 16) * min(max(bit[0] >> 4, 32), 65504))
        update(bit, decision)
        return decision

    def mixed(self, bits, weights):
        logits = [STRETCH[bit[0] >> 8] for bit in bits]
        total = sum(l * w for l, w in zip(logits, weights)) >> 16
        p = SQUASH[min(max(total, -2047), 2047) + 2048]
        decision = self.split((self.range >> 16) * p)
        error = (decision << 16) - p
        for i, l in enumerate(logits):
            weights[i] += (l * error + (1 << 15)) >> 16
        for bit, limit in zip(bits, (255, 255, 24)):
            update(bit, decision, limit)
        return decision

    def escape(self):
        exponent = 0
        while self.raw(1):
            exponent += 1
            assert exponent <= 24, "an index is out of range"
        return (1 << exponent | self.raw(exponent)) - 1


class Numbers:
    def __init__(self):
        self.zero, self.sign, self.exponents = new_bit(), new_bit(), [new_bit() for _ in range(16)]

    def read(self, r):
        if r.single(self.zero):
            return 0
        negative, exponent = r.single(self.sign), 0
        while exponent < 16 and r.single(self.exponents[exponent]):
            exponent += 1
        magnitude = 1 << exponent | r.raw(exponent)
        return -magnitude if negative else magnitude


def read_scales(r, are_coded):
    """Scale codes, each told from the one before; 0 where none is coded."""
    numbers, last, scales = Numbers(), 0, []
    for is_coded in are_coded:
        last += numbers.read(r) if is_coded else 0
        assert 0 <= last < 64, "a scale is out of range"
        scales.append(last)
    return scales


class Symbols:
    def __init__(self, bits):
        self.bits, self.tree = bits, [new_bit() for _ in range(1 << bits)]

    def read(self, r):
        node = 1
        for _ in range(self.bits):
            node = node << 1 | r.single(self.tree[node])
        return node - (1 << self.bits)


# States after an even and an odd index, and which states have the second quantizer; by the code of the trellis.
TRELLIS = [
    ([(0, 0)], [0]),
    ([(0, 2), (2, 0), (1, 3), (3, 1)], [0, 0, 1, 1]),
    ([(0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5)], [0, 1] * 4),
]


def plane(r, rows, width, period, used, trellis=0, restarts=False):
    """A matrix of indices; with a trellis, which may begin anew with each row, of levels."""
    (following, second_quantizer), state = TRELLIS[trellis], 0
    with_signs, shift, shifts = r.raw(1), 0, Numbers()
    period = period if 1 <= period <= 1024 else 1
    contexts = lambda n: [[new_bit() for _ in range(14)] for _ in range(n)]
    by_sum, by_means, by_pattern = contexts(36), contexts(384), contexts(128)
    mixers = [[24000] * 3 for _ in range(14)]
    sign_row, sign_place, sign_means = ([new_bit() for _ in range(n)] for n in (27, 81, 49))
    sign_mixer = [24000] * 3
    margin = 2 * max(period, 2)
    above = above2 = [0] * (margin + width)
    columns, column_signs = [128] * width, [0] * width
    mean = 256
    sign = lambda v: (v > 0) - (v < 0) + 1
    out = np.zeros((rows, width), np.int64)
    for row in range(rows):
        if not used[row]:
            continue
        now, signs, place = [0] * (margin + width), 0, 0
        state = 0 if restarts else state
        shift += shifts.read(r)
        assert 0 <= shift <= 15, "a row has too many low bits"
        for j in range(width):
            at = margin + j
            left, left2, left3, tap, up = now[at - 1], now[at - 2], now[at - 3], now[at - period], above[at]
            if period > 1:
                total = 2 * abs(left) + abs(left2) + 2 * abs(tap) + abs(now[at - 2 * period]) + 2 * abs(up) + abs(above2[at])
            else:
                total = 3 * abs(left) + 2 * abs(left2) + abs(left3) + 2 * abs(up) + abs(above2[at])
            quantizer = second_quantizer[state]
            sums = by_sum[18 * quantizer + class_of(2 * total, 18)]
            means = class_of(mean >> 4, 16) * 12 + class_of(columns[j] >> 4, 12)
            pattern = by_pattern[64 * quantizer + 16 * min(abs(left), 3) + 4 * min(abs(tap), 3) + min(abs(up), 3)]

            def code_sign():
                if not with_signs:
                    return r.raw(1)
                by_means = (min(max(signs + 16 >> 5, -3), 3) + 3) * 7 + min(max(column_signs[j] + 4 >> 3, -3), 3) + 3
                row_context, place_context = 9 * sign(left) + 3 * sign(left3) + sign(tap), 27 * sign(up) + 9 * sign(left2) + min(place, 8)
                return r.mixed([sign_row[row_context], sign_place[place_context], sign_means[by_means]], sign_mixer)

            high, negative, of_means = 0, False, by_means[means]
            while high < 14 and r.mixed([sums[high], of_means[high], pattern[high]], mixers[high]):
                high += 1
                if high == 1:
                    negative = code_sign()
                    of_means = by_means[means + 192 * negative]
            if high == 14:
                high += r.escape()
            magnitude = high << shift | r.raw(shift)
            assert magnitude < 1 << 24, "an index is out of range"
            if high == 0 and magnitude > 0:
                negative = code_sign()
            level = 2 * magnitude - quantizer * (magnitude > 0) if trellis else magnitude
            out[row, j] = -level if negative else level
            state = following[state][magnitude & 1]
            place = 0 if place + 1 == period else place + 1
            now[at] = -min(high, 15) if negative else min(high, 15)
            high, signed = min(high, 255), 0 if magnitude == 0 else -1 if negative else 1
            mean += ((high << 8) - mean) * RATES[7 + min(j, 120)] >> 12
            signs += 8 * signed - (signs >> 4)
            columns[j] += 16 * high - (columns[j] >> 3)
            column_signs[j] += 8 * signed - (column_signs[j] >> 3)
        above, above2 = now, above
    return out


def fixed_indices(body, head):
    """Index coding 0: side information and indices."""
    b = Bits(body)
    b.take(1, 16)
    e, blocks = b.one(16), b.one(8) + 1
    table = [(b.one(8), b.one(8)) + ((b.one(8), b.one(8)) if head["stored"] else (0, 0)) for _ in range(blocks)]
    v_depth, v_step = (b.one(8), b.one(8)) if head["second"] else (0, 0)
    rows = head["rows"]
    block_of = [r * blocks // rows for r in range(rows)] if head["sorted"] else b.take(rows, (blocks - 1).bit_length())
    scales = [int(s) for s in b.take(rows, 6)] if head["scaled"] else None
    coarseness = b.one(8) if head["gains"] else 0
    gains = gain_sizes(coarseness, [c - 256 if c >= 128 else c for c in b.take(head["gains"], 8).tolist()])
    v = b.take(head["second"] * head["m"], v_depth) - (1 << v_depth >> 1)
    s, t = np.zeros((rows, head["dim"]), np.int64), np.zeros((rows, head["width"]), np.int64)
    for r in range(rows):
        depth, _, basis_depth, _ = table[block_of[r]]
        if depth and head["stored"]:
            s[r] = b.take(head["dim"], basis_depth) - (1 << (basis_depth - 1))
        if depth:
            t[r] = b.take(head["width"], depth) - (1 << (depth - 1))
    assert len(b.bits) - b.at < 8 and not b.bits[b.at :].any()
    return e, [(row[0] > 0, row[1], row[3]) for row in table], block_of, scales, None, gains, v_step, v, s, t


def adaptive_indices(body, head):
    """Index coding 1: the same from the range decoder."""
    r = Range(body[2:])
    e, blocks, trellis = r.raw(16), r.raw(8) + 1, r.raw(2)
    rows, used, steps, basis_steps = head["rows"], Symbols(1), Numbers(), Numbers()
    table, step, basis_step = [], 168, 152
    for _ in range(blocks):
        if used.read(r):
            step += steps.read(r)
            if head["stored"]:
                basis_step += basis_steps.read(r)
            table.append((True, step, basis_step))
        else:
            table.append((False, 0, 0))
    second = head["second"] > 0 and used.read(r)
    if head["second"]:
        basis_step += basis_steps.read(r)
    v_step = basis_step
    numbers = Symbols((blocks - 1).bit_length())
    block_of = [k * blocks // rows for k in range(rows)] if head["sorted"] else [numbers.read(r) for _ in range(rows)]
    stored = [table[b][0] for b in block_of]
    scales = read_scales(r, stored) if head["scaled"] else None
    columns = None
    if head["columns"]:
        columns = [r.raw(1)] + [read_scales(r, [True] * n) for n in head["columns"]]
    coarseness = r.raw(3) if head["gains"] else 0
    mean, numbers = Numbers().read(r) if head["gains"] else 0, Numbers()
    gains = gain_sizes(coarseness, [mean + numbers.read(r) for _ in range(head["gains"])])
    v = np.zeros(head["second"] * head["m"], np.int64)
    if second:
        v = plane(r, head["second"], head["m"], 1, [True] * head["second"]).reshape(-1)
    s = plane(r, rows, head["dim"], 1, stored) if head["stored"] else np.zeros((rows, head["dim"]), np.int64)
    t = plane(r, rows, head["width"], head["period"], stored, trellis, columns is not None)
    assert r.at_end(), "the section does not end with its indices"
    return e, table, block_of, scales, columns, gains, v_step, v, s, t


def layer(body, g, n, m, k, kernel):
    first, coding = body[0], body[1]
    assert coding in (0, 1), "its index coding is unknown"
    # KLT, then ELT, across channels; then within kernels type 1 and 2, KLT and ELT; then both sides.
    transform = ["none", "row", "col", "row", "col", "dct1", "dct2", "intra", "intra", "both"][first & 15]
    within = None
    if first & 64:
        assert transform in ("none", "dct1", "dct2") and coding == 1, "it has scales of columns where there can be none"
        within, transform = transform[:3] == "dct" and transform, "none"
    groups, known = g, transform in ("dct1", "dct2")
    stored = transform != "none" and not known
    period, second = k, 0
    if known or transform == "intra":
        dim, width, groups, period = k, g * n * m, 1, m
    elif transform == "both":
        second = min(m, n * k)
        dim, width = n, second * k
        assert g == 1
    else:
        dim, width = (m, n * k) if transform == "row" else (n, m * k)
    rank = dim if transform == "none" or known else min(dim, width)
    rows = groups * rank
    head = {"rows": rows, "dim": dim, "width": width, "m": m, "second": second, "period": period, "stored": stored}
    head |= {"sorted": stored and groups == 1, "scaled": first & 16 != 0}
    # Numbers of channels and taps that have scales, and of output channels that have gains.
    head |= {"columns": (g * m, k) if first & 64 else None, "gains": g * n if first & 128 else 0}
    e, table, block_of, scales, columns, gains, v_step, v, s_indices, t_indices = (adaptive_indices if coding else fixed_indices)(body, head)
    e -= 65536 if e >= 32768 else 0
    if second:
        v = v.astype(np.float32).reshape(second, m) * step_size(v_step)
    t = np.zeros((groups, rank, width), np.float32)
    s = np.zeros((groups, rank, dim), np.float32)
    if known or within:
        down, across = (dct(int((within or transform)[3]), side) for side in kernel)
        cosines = (down[:, None, :, None] * across[None, :, None, :]).reshape(k, k)
    if known:
        s[0] = cosines
    used = np.zeros((groups, rank), bool)
    for r in range(rows):
        is_used, step, basis_step = table[block_of[r]]
        if not is_used:
            continue
        at = divmod(r, rank)
        used[at] = True
        if stored:
            s[at] = s_indices[r].astype(np.float32) * step_size(basis_step)
        t[at] = t_indices[r].astype(np.float32) * (step_size(step) * (scale_size(scales[r]) if scales else np.float32(1)))
    if columns:
        channels, taps = ([scale_size(s) for s in codes] for codes in columns[1:])
        if columns[0]:
            # Columns come by their scales, those that are weights by their channels' alone: back to where they belong.
            codes = np.reshape(columns[1], (groups, m, 1)) + (np.array(columns[2]) if within else np.zeros(k, int))
            places = np.argsort(codes.reshape(groups, width), axis=1, kind="stable")
            ordered, t = t, np.empty_like(t)
            for group, place in enumerate(places):
                t[group][:, place] = ordered[group]
        t = t * np.outer(np.array(channels, np.float32), np.array(taps, np.float32)).reshape(groups, 1, width)
    if within:
        coefficients = t.reshape(groups, rank, m, k)
        t = np.zeros_like(coefficients)
        for i in range(k):
            t += cosines[i] * coefficients[..., i, None]
        t = t.reshape(groups, rank, width)
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
    x = x.reshape(g, n, m, k)
    return x * gains.reshape(g, n, 1, 1) if first & 128 else x, first & 32 != 0


def unfold(x, gamma, variance, epsilon):
    """Takes the batch norm after a layer out again."""
    s = gamma.astype(np.float32).reshape(x.shape[:2]) / np.sqrt(variance.astype(np.float32).reshape(x.shape[:2]) + np.float32(epsilon))
    top = np.abs(s).max()
    assert np.isfinite(s).all() and 2.0**-60 <= top <= 2.0**60, "the batch norm cannot be taken out"
    least = top / np.float32(4096)
    s = np.where((s != 0) & (np.abs(s) < least), np.copysign(least, s), s)[:, :, None, None]
    return np.divide(x, s, out=np.zeros_like(x), where=s != 0)


def stored(x, dtype):
    """Elements as a model file has them, from float32: rounded to nearest, ties to even; what is finite stays finite. Those of bf16, which numpy has not, as their bits."""
    if dtype == "bf16":
        bits = np.ascontiguousarray(x).view(np.uint32).astype(np.uint64)
        bits = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        beyond = (bits & 0x7FFF == 0x7F80) & np.isfinite(x)
        return np.where(beyond, bits - 1, bits).astype(np.uint16)
    if dtype == "f16":
        x = np.where(np.isfinite(x), np.clip(x, -65504, 65504), x)
    return x.astype(DTYPES[dtype])


def floats(x, dtype):
    """Elements of a model file as arrays of floats: bf16 as float32, others as they are."""
    return (x.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else x


def load(path):
    """Tensors by name, in table order; those of bf16 as float32, those that are no floats as bytes."""
    return {name: floats(x, dtype) for name, (x, dtype) in read(path).items()}


def read(path):
    """As load, with elements as a model file has them: bf16 as their bits; and their types."""
    data = open(path, "rb").read()
    assert data[:7] == b"\x89TQ\r\n\x1a\n" and data[7] <= 2, "not a .tq of version 0, 1 or 2"
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
                tensors[t["name"]] = stored(np.frombuffer(body, np.float16).astype(np.float32), dtype).reshape(t["shape"])
                continue
        kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
        tensors[t["name"]] = np.frombuffer(body, kind).reshape(t["shape"]) if kind else np.frombuffer(body, np.uint8)
    for t, x in folded:
        if "fold" in t:
            batch_norm = (meta["tensors"][t["fold"][key]] for key in ("scale", "variance"))
            gamma, variance = (floats(tensors[b["name"]], b["dtype"]) for b in batch_norm)
            x = unfold(x, gamma, variance, t["fold"]["epsilon"])
        x = x.transpose(0, 2, 1, 3) if t["role"]["layer"]["order"] == "inout" else x
        tensors[t["name"]] = stored(np.ascontiguousarray(x), t["dtype"]).reshape(t["shape"])
    return {t["name"]: (tensors[t["name"]], t["dtype"]) for t in meta["tensors"]}


if __name__ == "__main__":
    for path in sys.argv[1:]:
        crc = 0
        for array, _ in read(path).values():
            crc = zlib.crc32(array.tobytes(), crc)
        print(f"{crc:#010x}")
