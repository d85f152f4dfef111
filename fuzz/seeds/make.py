"""Writes the seeds that are not files of tests/: python fuzz/seeds/make.py, with `waterfill` built (cargo build --release)."""

import json
import os
import struct
import subprocess
import tempfile
import zlib

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "../../tests")
TOOL = os.path.join(HERE, "../../target/release/waterfill")
# Columns are weights in one, cosine coefficients in the other.
GOLDEN = {"columns-gains": "resnet-digits-feedback.tq", "columns-cosine": "resnet-digits-cosine.tq"}


def put(target, name, data):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    with open(os.path.join(HERE, target, name), "wb") as f:
        f.write(data)


def read(*path):
    with open(os.path.join(TESTS, *path), "rb") as f:
        return f.read()


def sections(data):
    """Kinds and bodies of the sections of a .tq."""
    at = 8
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 1)[0]
        yield chr(data[at]), data[at + 5 : at + 5 + length]
        at += 9 + length


def file(parts):
    """A .tq of sections."""
    framed = (kind.encode() + struct.pack("<I", len(body)) + body for kind, body in parts)
    return b"\x89TQ\r\n\x1a\n\x02" + b"".join(part + struct.pack("<I", zlib.crc32(part)) for part in framed)


def with_gains(body, outputs):
    """A body in fixed lengths without a transform, with gains."""
    bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")
    blocks = body[4] + 1
    at = 40 + 16 * blocks + outputs * ((blocks - 1).bit_length() + (6 if body[0] & 16 else 0))
    gains = struct.pack(f"<B{outputs}b", 3, *(37 * c % 250 - 125 for c in range(outputs)))
    gains = np.unpackbits(np.frombuffer(gains, np.uint8), bitorder="little")
    bits = np.packbits(np.concatenate([bits[:at], gains, bits[at:]]), bitorder="little").tobytes()
    return bytes([bits[0] | 0x80]) + bits[1:]


for target, names in {
    "safetensors": ["mixed.safetensors"],
    "npy": ["fortran.npy", "object.npy"],
    "npz": ["stored.npz", "deflated.npz"],
    "pth": ["nested.pth", "evil.pth", "overlap.pth", "object.pth"],
    "onnx": ["external.onnx", "typed.onnx", "unpacked.onnx"],
}.items():
    for name in names:
        put(target, name, read("fixtures", name))
images = ["stored.npz", "grey.npy", "cifar10.bin", "t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz", "pictures.zip"]
for kind, name in enumerate(images):
    data = read("fixtures", "data", name)
    # Of a large file the start is enough.
    put("images", name, bytes([kind]) + (data[: 2 * 3073] if name.endswith(".bin") else data))
pictures = os.path.join(TESTS, "fixtures", "data", "pictures")
for folder, _, names in os.walk(pictures):
    for name in names:
        put("images", name, bytes([7 if name.endswith("webp") else 6]) + read(os.path.join(folder, name)))
put("labels", "labels.npy", b"\0" + read("fixtures", "data", "labels.npy"))
put("labels", "labels.txt", b"\x02" + b"3\n7\n")
put("labels", "labels.csv", b"\x03" + b"0,3\n1,7\n")
for name in sorted(os.listdir(os.path.join(TESTS, "golden_file"))):
    if name.startswith("kernels") and name.endswith(".tq"):
        put("tq", name, read("golden_file", name))

# Small layers of every transform in all codings: whole files, and the bodies of their layers behind a shape.
with tempfile.TemporaryDirectory() as folder:
    rng = np.random.default_rng(1)
    shapes = {"a": (6, 4, 3, 3), "b": (5, 3, 1, 1), "c": (7, 9, 2, 3), "d": (4, 1, 3, 3)}
    # Correlated across channels and within kernels, so that transforms pay.
    arrays = {k: (rng.laplace(size=s) * 0.02 + rng.normal(size=(s[0], 1) + s[2:])).astype(np.float32) for k, s in shapes.items()}
    np.savez(os.path.join(folder, "a.npz"), **arrays)
    for coding in ("fixed", "depths", "entropy"):
        for transform in ("none", "klt-row", "klt-col", "intra-dct1", "intra-dct2", "intra-klt", "two-sided", "auto"):
            out = os.path.join(folder, "a.tq")
            command = [TOOL, "compress", os.path.join(folder, "a.npz"), "-o", out, "--bits", "4", "--blocks", "2"]
            subprocess.run(command + ["--transform", transform, "--coding", coding], check=True, stdout=subprocess.DEVNULL)
            with open(out, "rb") as f:
                data = f.read()
            if transform in ("auto", "klt-col"):
                put("tq", f"{transform}-{coding}.tq", data)
            layers = [body for kind, body in sections(data) if kind == "L"]
            if (transform, coding) == ("none", "fixed"):
                outputs = iter(s[0] for s in shapes.values())
                parts = [(kind, with_gains(body, next(outputs)) if kind == "L" else body) for kind, body in sections(data)]
                put("tq", "gains-fixed.tq", file(parts))
                for (name, (n, m, rows, columns)), (_, body) in zip(shapes.items(), (part for part in parts if part[0] == "L")):
                    put("layer", f"gains-fixed-{name}", bytes([0, n - 1, m - 1, rows - 1, columns - 1, 0]) + body)
            for (name, (n, m, rows, columns)), body in zip(shapes.items(), layers):
                put("layer", f"{transform}-{coding}-{name}", bytes([0, n - 1, m - 1, rows - 1, columns - 1, 0]) + body)

# Of two groups: the body of `golden_bodies` in src/container/layer/tests.rs.
small = "d00163b343c920cded35b4ea4dc5e61dc5f831b8d6a79506c0ae4d86bcf0bbe3cab17ea1020000"
put("layer", "columns-gains-small", bytes([1, 1, 1, 0, 2, 0]) + bytes.fromhex(small))

# Scales of columns and gains, adaptively coded: the smallest layers of golden files, and files of some of them alone.
for label, golden in GOLDEN.items():
    parts = list(sections(read("golden_file", golden)))
    meta = json.loads(zlib.decompress(parts[0][1][8:], -15))
    coded = [t for t in meta["tensors"] if t["place"] == "section"]
    layers = [(t, body) for t, (kind, body) in zip(coded, parts[3:]) if kind == "L" and body[0] & 0xC0 == 0xC0]
    layers.sort(key=lambda layer: len(layer[1]))
    for at, (t, body) in enumerate(layers[:3]):
        q, (rows, columns) = t["role"]["layer"], ([1, 1] + t["shape"][2:])[-2:]
        sides = [q["groups"] - 1, q["outputs"] - 1, q["inputs"] - 1, rows - 1, columns - 1, int(q["order"] == "inout")]
        if sides[0] < 4 and max(sides[1:3]) < 40 and max(sides[3:5]) < 12:
            put("layer", f"{label}-{at}", bytes(sides) + body)
    # Not folded: their batch norms stay behind.
    tensors = [{k: v for k, v in t.items() if k != "fold"} for t, _ in layers[:4]]
    meta |= {"tensors": tensors, "skeleton": {"flat": [{"tensor": i} for i in range(len(tensors))]}}
    deflated = lambda data: struct.pack("<Q", len(data)) + zlib.compress(data, wbits=-15)
    bodies = [("L", bytes([body[0] & ~0x20]) + body[1:]) for _, body in layers[:4]]
    parts = [("M", deflated(json.dumps(meta).encode())), ("S", deflated(b"")), ("P", b""), *bodies]
    put("tq", f"{label}.tq", file([*parts, ("E", struct.pack("<I", len(parts)))]))


for name in sorted(name for name in os.listdir(os.path.join(HERE, "layer")) if name.endswith("-a")):
    with open(os.path.join(HERE, "layer", name), "rb") as f:
        put("entropy", name, bytes([8, 40, 9, 0]) + f.read()[8:])
