"""Writes the seeds that are not files of tests/: python fuzz/seeds/make.py, with `waterfill` built (cargo build --release)."""

import os
import shutil
import struct
import subprocess
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "../../tests")
TOOL = os.path.join(HERE, "../../target/release/waterfill")


def put(target, name, data):
    os.makedirs(os.path.join(HERE, target), exist_ok=True)
    with open(os.path.join(HERE, target, name), "wb") as f:
        f.write(data)


def read(*path):
    with open(os.path.join(TESTS, *path), "rb") as f:
        return f.read()


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
            at, layers = 8, []
            while data[at] != ord("E"):
                length = struct.unpack_from("<I", data, at + 1)[0]
                if data[at] == ord("L"):
                    layers.append(data[at + 5 : at + 5 + length])
                at += 9 + length
            for (name, (n, m, rows, columns)), body in zip(shapes.items(), layers):
                put("layer", f"{transform}-{coding}-{name}", bytes([0, n - 1, m - 1, rows - 1, columns - 1, 0]) + body)
for name in sorted(os.listdir(os.path.join(HERE, "layer")))[::4]:
    with open(os.path.join(HERE, "layer", name), "rb") as f:
        put("entropy", name, bytes([8, 40, 9, 0]) + f.read()[8:])
