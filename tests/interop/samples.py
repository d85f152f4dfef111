"""Checks the sample networks against docs/samples.md in onnxruntime. By hand: python tests/interop/samples.py

Needs numpy, onnx and onnxruntime (docs/samples/requirements.txt). Exit 0 when every file, size, count and accuracy is as the page says.
"""

import pathlib
import re
import sys

import numpy as np
import onnx
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "www" / "samples"
MODEL_LIMIT, IMAGES_LIMIT = 400_000, 150_000


def stated():
    """The table of docs/samples.md: file -> (bytes, layers, weights, top-1 in per cent)."""
    row = re.compile(r"^\| `(\S+\.onnx)` \| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", re.M)
    text = (ROOT / "docs" / "samples.md").read_text(encoding="utf-8")
    return {name: (int(size), int(layers), int(weights), float(top1)) for name, size, layers, weights, top1 in row.findall(text)}


def measured(path, images, labels):
    """The same four numbers from the file, with the preprocessing that its own metadata give; and the logits."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    shape = {i.name: i.dims for i in model.graph.initializer}
    kernels = [shape[node.input[1]] for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    x = (images.astype(np.float32) / np.float32(255) - np.float32(facts["mean"])) / np.float32(facts["std"])
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": x})[0]
    one = session.run(["logits"], {"input": x[:1]})[0]
    assert logits.shape == (len(labels), 10) and one.shape == (1, 10), f"{path.name}: logits {logits.shape}, {one.shape}"
    assert np.allclose(one, logits[:1], rtol=1e-3, atol=1e-3), f"{path.name}: a batch of one gives other logits"
    top1 = 100 * float((logits.argmax(1) == labels).mean())
    return path.stat().st_size, len(kernels), sum(int(np.prod(k)) for k in kernels), top1


def main():
    faults = []
    archive = FOLDER / "digits-test.npz"
    with np.load(archive) as data:
        images, labels = data["images"], data["labels"]
    if images.shape != (600, 8, 8, 1) or images.dtype != np.uint8 or labels.shape != (600,) or labels.dtype != np.uint8:
        faults.append(f"digits-test.npz: {images.shape} {images.dtype}, {labels.shape} {labels.dtype}")
    if archive.stat().st_size >= IMAGES_LIMIT:
        faults.append(f"digits-test.npz: {archive.stat().st_size} bytes, the limit is {IMAGES_LIMIT}")
    table = stated()
    files = {path.name for path in FOLDER.glob("*.onnx")}
    if files != set(table) or len(table) != 3:
        faults.append(f"www/samples has {sorted(files)}, docs/samples.md has {sorted(table)}")
    for name in sorted(files & set(table)):
        found = measured(FOLDER / name, images, labels)
        print(f"{name}: {found[0]} bytes, {found[1]} layers, {found[2]} weights, top-1 {found[3]:.2f} %")
        if found[0] >= MODEL_LIMIT:
            faults.append(f"{name}: {found[0]} bytes, the limit is {MODEL_LIMIT}")
        # Half a unit of the last printed digit of the accuracy; everything else exactly.
        if found[:3] != table[name][:3] or abs(found[3] - table[name][3]) > 0.00501:
            faults.append(f"{name}: docs/samples.md says {table[name]}")
    for fault in faults:
        print("WRONG", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
