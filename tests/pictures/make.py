"""Makes the files of this folder. Run: python tests/pictures/make.py (numpy and onnx; the same versions give the same bytes).

`noisy-digits.npz`: 12 handwritten digits of www/samples/digits-test.npz, enlarged to 32×32 pixels, with noise.
`denoiser.onnx`: 1 → 16 → 16 → 1 channels, 3×3, ReLU between; takes N×1×32×32 from 0 to 1. The first two layers are smoothing and random
filters, the last is fitted by least squares to the digits without noise.
`enlarger.onnx`: colour pictures of any size, twice as high and wide, by one layer of bilinear filters and DepthToSpace.
`two-channels.onnx`: one layer, from 1 channel to 2, which are no colours.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
CHANNELS, SIDE, TEST = 16, 32, 12


def enlarged(images):
    """Bilinear, from 8×8 to SIDE×SIDE, as a product with one matrix from each side."""
    n = images.shape[-1]
    centre = np.clip((np.arange(SIDE) + 0.5) * n / SIDE - 0.5, 0, n - 1)
    weights = np.maximum(1 - np.abs(centre[:, None] - np.arange(n)), 0)
    return weights @ images @ weights.T


def patches(x):
    """N×C×H×W to N×H×W×9C: what a 3×3 filter sees, in the order of its weights."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = x.shape[2:]
    shifted = [padded[:, :, dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)]
    return np.stack(shifted, 2).reshape(len(x), -1, height, width).transpose(0, 2, 3, 1)


def conv(x, weights, bias):
    return (patches(x) @ weights.reshape(len(weights), -1).T + bias).transpose(0, 3, 1, 2)


def save_npz(path, arrays):
    """An .npz whose bytes depend on the arrays alone."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def save_onnx(name, layers, taken, given, last=()):
    """3×3 convolutions with ReLU between them, and the nodes of `last`, which make `y` of `conv`."""
    nodes, tensors, before = [], [], "x"
    for k, (w, b) in enumerate(zip(*layers), 1):
        tensors += [numpy_helper.from_array(v.astype(np.float32), f"conv{k}.{what}") for v, what in ((w, "weight"), (b, "bias"))]
        ends = k == len(layers[0])
        out = ("conv" if last else "y") if ends else f"conv{k}"
        nodes.append(helper.make_node("Conv", [before, f"conv{k}.weight", f"conv{k}.bias"], [out], pads=[1, 1, 1, 1], kernel_shape=[3, 3]))
        if not ends:
            nodes.append(helper.make_node("Relu", [out], [f"relu{k}"]))
        before = f"relu{k}"
    shapes = ("x", taken), ("y", given)
    info = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["batch", *shape]) for tensor, shape in shapes]
    graph = helper.make_graph(nodes + list(last), name, info[:1], info[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tests/pictures/make.py")
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


def enlarging():
    """Weights of a layer from 3 channels to 12: the four pixels that one becomes, channel after channel, as DepthToSpace takes them (CRD)."""
    towards = np.array([[0.25, 0.75, 0], [0, 0.75, 0.25]])
    w = np.zeros((12, 3, 3, 3))
    for channel in range(3):
        for y in range(2):
            for x in range(2):
                w[4 * channel + 2 * y + x, channel] = np.outer(towards[y], towards[x])
    return w


def main():
    rng = np.random.default_rng(7)
    with np.load(HERE.parent.parent / "www/samples/digits-test.npz") as file:
        images = next(file[name] for name in file.files if file[name].ndim >= 3)
    digits = images.reshape(-1, 8, 8)[:200].astype(float)
    clean = enlarged(digits / digits.max())[:, None]
    noisy = np.round(255 * np.clip(clean + 0.12 * rng.standard_normal(clean.shape), 0, 1)) / 255

    weights, biases, x = [], [], noisy
    smooth = np.outer([1, 2, 1], [1, 2, 1]) / 16
    for inputs in (1, CHANNELS):
        w = rng.standard_normal((CHANNELS, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        # Half of the filters pass on what is there, smoothed.
        for k in range(CHANNELS // 2):
            w[k] = 0.2 * w[k]
            w[k, k % inputs] += smooth if k % 4 == 0 else np.roll(smooth, (k % 3 - 1, k // 3 % 3 - 1), (0, 1))
        b = 0.1 * rng.standard_normal(CHANNELS)
        x = np.maximum(conv(x, w, b), 0)
        weights.append(w)
        biases.append(b)
    seen = patches(x).reshape(-1, 9 * CHANNELS)
    seen = np.hstack([seen, np.ones((len(seen), 1))])
    solved = np.linalg.solve(seen.T @ seen + 1e-2 * np.eye(seen.shape[1]), seen.T @ clean.reshape(-1))
    weights.append(solved[:-1].reshape(1, CHANNELS, 3, 3))
    biases.append(solved[-1:])

    save_onnx("denoiser", (weights, biases), [1, SIDE, SIDE], [1, SIDE, SIDE])
    save_npz(HERE / "noisy-digits.npz", {"images": np.round(255 * noisy[:TEST, 0]).astype(np.uint8)})

    last = [helper.make_node("DepthToSpace", ["conv"], ["y"], blocksize=2, mode="CRD")]
    save_onnx("enlarger", ([enlarging()], [np.zeros(12)]), [3, "height", "width"], [3, "height2", "width2"], last)
    save_onnx("two-channels", ([rng.standard_normal((2, 1, 3, 3))], [np.zeros(2)]), [1, SIDE, SIDE], [2, SIDE, SIDE])

    denoised = conv(x, weights[-1], biases[-1])
    db = lambda a: -10 * np.log10(np.mean((a - clean)[:TEST] ** 2))
    print(f"numpy {np.__version__}, onnx {onnx.__version__}: PSNR of the noisy digits {db(noisy):.2f} dB, denoised {db(denoised):.2f} dB")


main()
