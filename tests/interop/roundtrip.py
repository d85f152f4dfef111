"""Compresses and decompresses models with the command line tool and reads what comes back with each format's own library.

    cargo build --release
    python tests/interop/roundtrip.py target/release/waterfill [DATA]      # DATA, or $WATERFILL_DATA: resnet20.*, cifar10-test2000.npz

Run by hand, not by CI: needs numpy, onnx, onnxruntime, safetensors and torch (docs/samples/requirements.txt).
Files: resnet20 in four formats (only with DATA), the three samples, and four made here that have what those lack: metadata, half and
double precision, integers, empty and scalar tensors, nested and tied checkpoints, views, Fortran order, deflate, typed ONNX fields.

Of each file that comes back: same names, order, shapes, element types, metadata, containers and graph; integers bit for bit; every float
tensor exact, or rounded to 16-bit float, or a quantized layer that the report names, with the error the report states, in all no more than the bits explain.
The report's byte count is the `.tq` file's. ONNX models also run before and after; at `--bits 8` their logits must agree to `--logits` per cent of their deviation (rms).
Exit 0 when all holds, 1 when not, 2 when something needed is missing.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
Loaded = collections.namedtuple("Loaded", "tensors structure")
Loaded.__doc__ = "`tensors`: name -> array, in the file's order. `structure`: everything else that must come back equal, printable."


# Reading, one function a format. Arrays are NumPy's, except that bfloat16, which NumPy lacks, is widened (its name is in the structure).


def to_numpy(tensor):
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=collections.OrderedDict)
    metadata = header.pop("__metadata__", None)
    entries = [(name, entry["dtype"], entry["shape"], entry["data_offsets"]) for name, entry in header.items()]
    with safe_open(path, framework="pt") as file:
        if file.metadata() != metadata:
            raise ValueError(f"{path}: the library reads the metadata {file.metadata()}, the header has {metadata}")
        tensors = {name: to_numpy(file.get_tensor(name)) for name in header}
    return Loaded(tensors, {"metadata": metadata, "entries in order": entries})


def read_npz(path):
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, member.compress_type) for member in archive.infolist()]
    with np.load(path, allow_pickle=False) as data:
        tensors = {name: data[name] for name in data.files}
    order = {name: (a.flags.f_contiguous, a.flags.c_contiguous) for name, a in tensors.items()}
    return Loaded(tensors, {"members": members, "memory order": order})


def read_pth(path):
    root = torch.load(path, weights_only=True, map_location="cpu")
    tensors, storages = {}, {}

    def walk(value, name):
        """The value with each tensor replaced by what is not its data; tensors go to `tensors` under their path."""
        if isinstance(value, torch.Tensor):
            key = name
            tensors[key] = to_numpy(value)
            # Tensors that shared memory must share it again: number the storages in the order of their first use.
            storage = storages.setdefault(value.untyped_storage().data_ptr(), len(storages)) if value.numel() else None
            return (type(value).__name__, str(value.dtype), tuple(value.shape), value.stride(), value.storage_offset(), value.requires_grad, storage)
        if isinstance(value, dict):
            extra = getattr(value, "_metadata", None)
            return (type(value).__name__, [(key, walk(item, f"{name}.{key}" if name else str(key))) for key, item in value.items()], extra and list(extra.items()))
        if isinstance(value, (list, tuple)):
            return (type(value).__name__, [walk(item, f"{name}.{index}") for index, item in enumerate(value)])
        return repr(value)

    structure = walk(root, "")
    return Loaded(tensors, {"objects": structure})


def read_onnx(path):
    model = onnx.load(path)
    onnx.checker.check_model(model)
    tensors = {}

    def empty(tensor, name):
        tensors[name] = numpy_helper.to_array(tensor).astype(np.float32) if tensor.data_type == TensorProto.BFLOAT16 else numpy_helper.to_array(tensor)
        for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data", "uint64_data"):
            tensor.ClearField(field)

    for initializer in model.graph.initializer:
        empty(initializer, initializer.name)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                empty(attribute.t, f"{node.output[0]}.{attribute.name}")
    # What is left is the graph, its names, shapes, types, order, metadata and opsets.
    return Loaded(tensors, {"model without data": str(model)})


READ = {".safetensors": read_safetensors, ".npz": read_npz, ".pth": read_pth, ".onnx": read_onnx}


# Files with what resnet20 lacks.


def smooth(rng, *shape):
    """Weights with some correlation between channels, as trained ones have."""
    a = rng.standard_normal(shape)
    return (np.cumsum(a, axis=0) * 0.3 + a).astype(np.float32) * 0.05


def make_safetensors(path):
    rng = np.random.default_rng(1)
    t = lambda *shape: torch.from_numpy(smooth(rng, *shape))
    tensors = {
        "conv.weight": t(64, 32, 3, 3),
        "conv.bias": t(64),
        "bf16.weight": t(48, 64).to(torch.bfloat16),
        "bf16.bias": t(48).to(torch.bfloat16),
        "f16.weight": t(40, 24).half(),
        "f64.weight": t(32, 40).double(),
        "f64.bias": t(32).double(),
        "steps": torch.tensor(1234567890123, dtype=torch.int64),
        "mask": torch.tensor([True, False, True]),
        "codes": torch.arange(200, dtype=torch.uint8).reshape(10, 20),
        "none": torch.zeros(0, 4),
    }
    save_file(tensors, path, metadata={"format": "pt", "note": "kept, “quotes” and all"})


def make_npz(path):
    rng = np.random.default_rng(2)
    np.savez_compressed(
        path,
        **{
            "dense/kernel": np.asfortranarray(smooth(rng, 64, 48)),
            "conv.weight": smooth(rng, 32, 16, 3, 3),
            "f64.weight": smooth(rng, 24, 32).astype(np.float64),
            "f16.weight": smooth(rng, 24, 32).astype(np.float16),
            "bias": smooth(rng, 64),
            "steps": np.int64(7),
            "codes": np.arange(12, dtype=np.uint8).reshape(3, 4),
        },
    )


def make_pth(path):
    rng = np.random.default_rng(3)
    t = lambda *shape: torch.from_numpy(smooth(rng, *shape))
    tied = torch.nn.Parameter(t(60, 32))
    state = collections.OrderedDict()
    state["module.conv.weight"] = t(48, 32, 3, 3)
    state["module.conv.bias"] = t(48)
    state["module.embedding.weight"] = tied
    state["module.head.weight"] = tied
    state["module.transposed.weight"] = t(40, 24).t()
    state["module.half.weight"] = t(32, 32).half()
    state["module.bf16.weight"] = t(32, 48).to(torch.bfloat16)
    state["module.bn.num_batches_tracked"] = torch.tensor(4711)
    state._metadata = collections.OrderedDict([("", {"version": 1}), ("module.bn", {"version": 2})])
    torch.save({"epoch": 3, "best": 0.25, "state_dict": state, "arch": "made", "history": [1.0, (2, None)]}, path)


def make_onnx(path):
    """Conv in a typed field, grouped Conv, ConvTranspose, Gemm with and without transB, MatMul in half and double precision."""
    rng = np.random.default_rng(4)
    raw = lambda name, array: numpy_helper.from_array(array, name)
    typed = lambda name, array: helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.ravel().tolist())
    initializers = [
        typed("typed.weight", smooth(rng, 32, 16, 3, 3)),
        typed("typed.bias", smooth(rng, 32)),
        raw("grouped.weight", smooth(rng, 32, 8, 3, 3)),
        raw("up.weight", smooth(rng, 32, 24, 2, 2)),
        raw("shape", np.array([0, -1], dtype=np.int64)),
        raw("gemm.weight", smooth(rng, 24 * 16, 40) * 0.3),
        raw("gemmT.weight", smooth(rng, 48, 40)),
        raw("gemmT.bias", smooth(rng, 48)),
        raw("half.weight", smooth(rng, 48, 32).astype(np.float16)),
        raw("double.weight", smooth(rng, 32, 24).astype(np.float64)),
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "typed.weight", "typed.bias"], ["a"], pads=[1, 1, 1, 1], name="typed"),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "grouped.weight"], ["c"], group=4, strides=[2, 2], pads=[1, 1, 1, 1], name="grouped"),
        node("Relu", ["c"], ["d"]),
        node("ConvTranspose", ["d", "up.weight"], ["e"], strides=[2, 2], name="up"),
        node("Constant", [], ["scale"], value=raw("", np.float32([0.5]))),
        node("Mul", ["e", "scale"], ["f"]),
        node("Reshape", ["f", "shape"], ["g"]),
        node("Gemm", ["g", "gemm.weight"], ["h"], name="gemm"),
        node("Relu", ["h"], ["i"]),
        node("Gemm", ["i", "gemmT.weight", "gemmT.bias"], ["j"], transB=1, name="gemmT"),
        node("Cast", ["j"], ["k"], to=TensorProto.FLOAT16),
        node("MatMul", ["k", "half.weight"], ["l"], name="half"),
        node("Cast", ["l"], ["m"], to=TensorProto.DOUBLE),
        node("MatMul", ["m", "double.weight"], ["n"], name="double"),
        node("Cast", ["n"], ["logits"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 16, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 24])]
    model = helper.make_model(helper.make_graph(nodes, "made", inputs, outputs, initializers), opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = "note", "kept"
    model.doc_string = "made by tests/interop/roundtrip.py"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


MAKE = {"made.safetensors": make_safetensors, "made.npz": make_npz, "made.pth": make_pth, "made.onnx": make_onnx}


# Inputs for the ONNX models: images (float32, N x C x H x W) and labels or None.


def normalised(archive, mean, std):
    with np.load(archive) as data:
        images, labels = data["images"], data["labels"]
    x = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)), labels


def inputs_for(path, data):
    if path.name.endswith("-digits.onnx"):
        facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        return normalised(ROOT / "www/samples/digits-test.npz", facts["mean"], facts["std"])
    if path.name.startswith("resnet20"):
        return normalised(data / "cifar10-test2000.npz", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return np.random.default_rng(5).standard_normal((500, 16, 4, 4)).astype(np.float32), None


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"input": x[i : i + 100]})[0] for i in range(0, len(x), 100)]).astype(np.float64)


# The check.


def first_difference(a, b):
    """A short view of where two structures differ."""
    a, b = str(a), str(b)
    at = next((i for i, (p, q) in enumerate(zip(a, b)) if p != q), min(len(a), len(b)))
    return f"…{a[max(0, at - 60) : at + 60]!r} became …{b[max(0, at - 60) : at + 60]!r}"


def rounding(dtype):
    """Relative error, squared, that storing in this element type adds to a weight."""
    return {"float16": 2.0**-22, "float64": 2.0**-104}.get(str(dtype), 2.0**-48)


def compare(before, after, report, wide):
    """Faults, and the relative errors of the quantized layers. `wide`: names of tensors whose stored type is bfloat16."""
    faults, errors = [], {}
    for key in before.structure:
        if before.structure[key] != after.structure[key]:
            faults.append(f"{key}: {first_difference(before.structure[key], after.structure[key])}")
    if list(before.tensors) != list(after.tensors):
        faults.append(f"tensor names or order: {first_difference(list(before.tensors), list(after.tensors))}")
    for name in before.tensors.keys() & after.tensors.keys():
        old, new = before.tensors[name], after.tensors[name]
        if old.dtype != new.dtype or old.shape != new.shape:
            faults.append(f"{name}: {old.dtype}{list(old.shape)} became {new.dtype}{list(new.shape)}")
        elif old.tobytes() == new.tobytes():
            pass
        elif old.dtype.kind != "f":
            faults.append(f"{name}: {old.dtype} values changed")
        elif np.array_equal(old.astype(np.float16).astype(old.dtype), new) and name not in wide:
            pass
        elif old.ndim < 2:
            worst = np.abs(old.astype(np.float64) - new).max() / np.abs(old).max()
            # A bfloat16 bias, rounded to float16 and back, is off by at most half a unit of its 8 bits.
            if name not in wide or worst > 2.0**-8:
                faults.append(f"{name}: a {old.ndim}-dimensional tensor, neither exact nor rounded to 16-bit float, off by {worst:.2e} of its largest value")
        else:
            errors[name] = float(((old.astype(np.float64) - new) ** 2).sum() / (old.astype(np.float64) ** 2).sum())
    stated = {row["name"]: row for row in report["allocation"]["layers"] if not row["excluded"]}

    def row_of(name):
        """The report may name a checkpoint's tensors without the keys that lead to them."""
        return stated.get(name) or next((row for layer, row in stated.items() if name.endswith("." + layer)), None)

    for name, error in errors.items():
        # Tensors that share their memory are one layer, under the name of any of them.
        twins = [other for other in errors if all(x.tensors[other].tobytes() == x.tensors[name].tobytes() for x in (before, after))]
        row = next(filter(None, map(row_of, [name, *twins])), None)
        if row is None:
            faults.append(f"{name}: changed, but the report has no such layer")
            continue
        # Storing in 16 bits adds rounding to the error of the decoded weights; 3 covers its tails.
        slack = 1e-3 * row["error"] + 3 * (2.0**-16 if name in wide else rounding(before.tensors[name].dtype))
        if abs(error - row["error"]) > slack:
            faults.append(f"{name}: relative squared error {error:.4e}, the report says {row['error']:.4e}")
    if not errors:
        faults.append("no tensor was quantized")
    return faults, errors


def bfloat16_names(path):
    if path.suffix == ".safetensors":
        return {name for name, dtype, *_ in read_safetensors(path).structure["entries in order"] if dtype == "BF16"}
    return {"state_dict.module.bf16.weight"} if path.name == "made.pth" else set()


def tool(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=570)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def check(binary, path, folder, options, data):
    """Compresses, decompresses and compares one file; prints a paragraph, returns its faults."""
    coded, back, written = folder / f"{path.name}.tq", folder / f"back-{path.name}", folder / f"{path.name}.json"
    tool(binary, "compress", path, "-o", coded, "--bits", options.bits, "--report", written)
    tool(binary, "decompress", coded, "-o", back)
    report = json.loads(written.read_text(encoding="utf-8"))
    allocation = report["allocation"]
    wide = bfloat16_names(path)
    before, after = READ[path.suffix](path), READ[path.suffix](back)
    faults, errors = compare(before, after, report, wide)
    size = coded.stat().st_size
    if allocation["bytes"] != size:
        faults.append(f"the report says {allocation['bytes']} bytes, the file has {size}")
    if allocation["not_reachable"] is None and allocation["rate"] > options.bits + 1e-9:
        faults.append(f"{allocation['rate']:.4f} bits per weight, {options.bits} were asked for")
    kinds = collections.Counter(row["transform"] for row in allocation["layers"])
    print(f"{path.name}: {path.stat().st_size} -> {size} bytes, {allocation['rate']:.3f} bits per weight, {len(before.tensors)} tensors, transforms {dict(kinds)}")
    if errors:
        root = {name: 100 * error**0.5 for name, error in errors.items()}
        worst, rms = max(root, key=root.get), 100 * np.mean(list(errors.values())) ** 0.5
        print(f"  relative weight error: rms over {len(root)} layers {rms:.3f} %, worst {root[worst]:.3f} % ({worst})")
        # A uniform quantizer of b bits with the best step for Gaussian weights is at about 2.4·2^−b (8 bits: 0.96 %); the rest is for side information.
        if rms > 600 * 2.0**-options.bits:
            faults.append(f"a relative weight error of {rms:.3f} % is too much for {options.bits} bits per weight")
    if path.suffix == ".onnx":
        x, labels = inputs_for(path, data)
        old, new = run(path, x), run(back, x)
        rms, mean = (100 * e / old.std() for e in (np.sqrt(((new - old) ** 2).mean()), np.abs(new - old).mean()))
        agree = 100 * (new.argmax(1) == old.argmax(1)).mean()
        top1 = "" if labels is None else f", top-1 {100 * (old.argmax(1) == labels).mean():.2f} -> {100 * (new.argmax(1) == labels).mean():.2f} %"
        print(f"  logits on {len(x)} inputs: rms difference {rms:.3f} % of their deviation (mean {mean:.3f} %), same answer {agree:.2f} %{top1}")
        if not rms <= options.logits:
            faults.append(f"logits differ by {rms:.3f} % (rms), allowed are {options.logits} %")
    for fault in faults:
        print(f"  WRONG {fault}")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path, help="the waterfill program")
    parser.add_argument("data", type=pathlib.Path, nargs="?", default=os.environ.get("WATERFILL_DATA"), help="folder with resnet20.* (default: $WATERFILL_DATA)")
    parser.add_argument("--bits", type=float, default=8.0, help="budget in bits per weight (default: 8)")
    parser.add_argument("--logits", type=float, default=1.0, help="allowed rms difference of logits, per cent of their deviation (default: 1)")
    parser.add_argument("--only", help="only files whose name contains this")
    parser.add_argument("--keep", type=pathlib.Path, help="leave all files in this folder")
    options = parser.parse_args()
    if not options.binary.is_file():
        print(f"{options.binary}: no such program; build it with `cargo build --release`", file=sys.stderr)
        return 2
    files = sorted((ROOT / "www" / "samples").glob("*.onnx"))
    if options.data is None:
        print("resnet20.* left out: no data folder given and WATERFILL_DATA is not set")
    else:
        data = pathlib.Path(options.data)
        files += [data / f"resnet20{suffix}" for suffix in (".onnx", "-legacy-bn.onnx", "-legacy-folded.onnx", ".safetensors", ".pth", ".npz")]
        missing = [str(path) for path in (*files, data / "cifar10-test2000.npz") if not path.is_file()]
        if missing:
            print(f"not there: {', '.join(missing)}", file=sys.stderr)
            return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, make in MAKE.items():
            make(folder / name)
            files.append(folder / name)
        files = [path for path in files if not options.only or options.only in path.name]
        wrong = []
        for path in files:
            try:
                faults = check(options.binary, path, folder, options, options.data and pathlib.Path(options.data))
            except Exception as fault:  # One file's failure must not hide the others'.
                print(f"{path.name}\n  WRONG {type(fault).__name__}: {fault}")
                faults = [fault]
            if faults:
                wrong.append(path.name)
    print(f"{len(files) - len(wrong)} of {len(files)} files right" + (f"; wrong: {', '.join(wrong)}" if wrong else ""))
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
