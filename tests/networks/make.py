"""Makes the golden files of this folder; see README.md. Run: python tests/networks/make.py [networks] [templates] [gradients] [resnet20]"""

import argparse
import importlib.metadata
import io
import json
import logging
import math
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper

import generator
import gradients
import models

HERE = Path(__file__).parent

# Exporters: torch.export's graph in its newest opset, batch norms folded; TorchScript's in opset 17, batch norms kept; TorchScript's in
# opset 11, folded.
DYNAMO, KEPT, FOLDED = "dynamo", "kept", "folded"

# Networks that are exported for images of any size; the others for any batch.
ANY_SIZE = ["edsr", "unet"]

# Network, shape of the input, exports.
NETWORKS = [
    ("alexnet", (1, 3, 224, 224), [DYNAMO, KEPT]),
    ("vgg11", (1, 3, 224, 224), [DYNAMO, KEPT]),
    ("resnet18", (2, 3, 64, 80), [DYNAMO, KEPT, FOLDED]),
    ("resnet50", (2, 3, 64, 64), [DYNAMO, KEPT]),
    ("densenet121", (2, 3, 64, 64), [DYNAMO, KEPT, FOLDED]),
    ("mobilenet_v2", (2, 3, 96, 64), [DYNAMO, KEPT]),
    ("squeezenet1_0", (2, 3, 79, 95), [DYNAMO, KEPT]),
    ("squeezenet1_1", (1, 3, 224, 224), [DYNAMO]),
    ("edsr", (2, 3, 12, 16), [DYNAMO, KEPT]),
    ("unet", (2, 3, 24, 32), [DYNAMO, KEPT, FOLDED]),
]

# Networks of which the weights alone are recognised, and shapes of the input.
TEMPLATES = [
    ("alexnet", (1, 3, 224, 224)),
    ("vgg11", (1, 3, 224, 224)),
    ("vgg11_bn", (1, 3, 224, 224)),
    *((f"resnet{depth}", (1, 3, 224, 224)) for depth in [18, 34, 50, 101]),
    *((name, (1, 3, 224, 224)) for name in ["densenet121", "densenet161", "mobilenet_v2", "squeezenet1_0", "squeezenet1_1"]),
    *((f"cifar-resnet{depth}{shortcut}", (2, 3, 32, 32)) for depth in [20, 32, 44, 56, 110] for shortcut in "ab"),
]


def save(name, arrays):
    """An .npz whose bytes depend on the arrays alone."""
    path = HERE / name
    np.savez_compressed(path, **arrays)
    print(f"{path.relative_to(HERE.parents[1])}: {path.stat().st_size} bytes")


def text(value):
    """JSON as an array of bytes."""
    return np.frombuffer(json.dumps(value, separators=(",", ":")).encode(), np.uint8)


def export(model, x, how, free):
    """An ONNX model of this network; lengths of the `free` axes are not fixed."""
    file = io.BytesIO()
    names = {"input_names": ["input"], "output_names": ["output"]}
    if how == DYNAMO:
        torch.onnx.export(model, (x,), file, dynamo=True, dynamic_shapes=({axis: torch.export.Dim.DYNAMIC for axis in free},), verbose=False, **names)
    else:
        kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False, "opset_version": 17}
        options = {**names, **(kept if how == KEPT else {"opset_version": 11})}
        axes = {axis: "NCHW"[axis] for axis in free}
        torch.onnx.export(model, (x,), file, dynamo=False, dynamic_axes={"input": axes, "output": {0: "N"}}, **options)
    return onnx.load_from_string(file.getvalue())


def strip(model):
    """Away with stack traces, inferred shapes and comments."""
    model.doc_string = ""
    del model.metadata_props[:]
    for thing in [model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        thing.doc_string = ""
        del thing.metadata_props[:]
    del model.graph.value_info[:]
    assert not model.functions


def generate(model, case, folder):
    """Puts generated values in place of the initializers, with their mean and spread, into `weights.bin`. Gives the manifest."""
    manifest = []
    offset = 0
    with open(folder / "weights.bin", "wb") as file:
        for tensor in model.graph.initializer:
            count = math.prod(tensor.dims)
            if tensor.data_type != TensorProto.FLOAT or count < 8:
                continue
            values = numpy_helper.to_array(tensor)
            mean, spread = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)) * math.sqrt(3)
            centre = generator.digits(mean, 3) if abs(mean) > spread / 8 else 0.0
            amplitude = generator.digits(spread, 3)
            file.write(generator.tensor(generator.seed_of(case) + 1 + len(manifest), (count,), centre, amplitude).tobytes())
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in [("location", "weights.bin"), ("offset", offset), ("length", 4 * count)]:
                tensor.external_data.add(key=key, value=str(value))
            manifest.append((tensor.name, list(tensor.dims), centre, amplitude))
            offset += 4 * count
    return manifest


def session(model, threads=1):
    """onnxruntime, without rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def networks():
    arrays = {}
    for name, shape, exports in NETWORKS:
        x = torch.from_numpy(generator.tensor(generator.seed_of(name), shape, 0, 1.73))
        network = models.build(name)
        models.fill(network, name, x)
        for how in exports:
            case = f"{name}-{how}"
            seed = generator.seed_of(case)
            model = export(network, x, how, [0, 2, 3] if name in ANY_SIZE else [0])
            strip(model)
            x_case = generator.tensor(seed, shape, 0, 1.73)
            with tempfile.TemporaryDirectory() as folder:
                folder = Path(folder)
                manifest = generate(model, case, folder)
                graph = model.SerializeToString(deterministic=True)
                (folder / "model.onnx").write_bytes(graph)
                y = session(folder / "model.onnx").run(None, {model.graph.input[0].name: x_case})[0]
            arrays[f"{case}/graph"] = np.frombuffer(graph, np.uint8)
            arrays[f"{case}/manifest"] = text({"seed": seed, "input": shape, "tensors": [t[1:] for t in manifest]})
            arrays[f"{case}/output"] = y
            ops = {}
            for node in model.graph.node:
                ops[node.op_type] = ops.get(node.op_type, 0) + 1
            print(f"  {case}: opset {model.opset_import[0].version}, {len(graph)} bytes, output {y.shape} in {y.min():.3g}..{y.max():.3g}, {ops}")
    save("networks.npz", arrays)


def templates():
    arrays = {}
    for name, shape in TEMPLATES:
        case = f"template-{name}"
        seed = generator.seed_of(case)
        x = torch.from_numpy(generator.tensor(seed, shape, 0, 1.73))
        network = models.build(name)
        manifest = models.fill(network, case, x)
        y = models.outputs(network, x)
        arrays[f"{name}/manifest"] = text({"seed": seed, "input": shape, "tensors": manifest})
        arrays[f"{name}/output"] = y
        print(f"  {case}: {len(manifest)} tensors, output {y.shape} in {y.min():.3g}..{y.max():.3g}")
    save("templates.npz", arrays)


def resnet20():
    """A few numbers of the gradient of a trained network, which is not ours to commit; batch norms are folded."""
    if "WATERFILL_DATA" not in os.environ:
        return print("  resnet20 left out: WATERFILL_DATA is not set")
    data = Path(os.environ["WATERFILL_DATA"])
    network = models.CifarResNet(20, "A")
    network.load_state_dict(torch.load(data / "resnet20.pth", weights_only=True))
    network.double().eval()
    images = np.load(data / "cifar10-calib1000.npz")["images"][:8]
    x = (torch.from_numpy(images).double() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    seed = generator.seed_of("resnet20")
    v = torch.from_numpy(generator.tensor(seed, (8, 10)))
    y = network(x.permute(0, 3, 1, 2))
    (y * v).sum().backward()
    layers = []
    norms = dict(zip([n for n, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)], [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]))
    for name, module in network.named_modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            gradient = module.weight.grad
            if name in norms:
                scale = norms[name].weight / torch.sqrt(norms[name].running_var + norms[name].eps)
                gradient = gradient / scale.detach().view(-1, 1, 1, 1)
            gradient = gradient.flatten().numpy()
            at = np.linspace(0, gradient.size - 1, 8).astype(int)
            layers.append({"name": name + ".weight", "norm": generator.digits(np.linalg.norm(gradient), 7), "at": at.tolist(), "values": [generator.digits(g, 7) for g in gradient[at]]})
    result = {"seed": seed, "logits": [[generator.digits(l, 7) for l in row] for row in y.tolist()], "layers": layers}
    (HERE / "resnet20.json").write_text(json.dumps(result, indent=0) + "\n")
    print(f"  resnet20: {len(layers)} layers")


def main():
    parts = {"networks": networks, "templates": templates, "gradients": lambda: gradients.make(save, session), "resnet20": resnet20}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="all if none")
    for package in ["numpy", "torch", "torchvision", "onnx", "onnxscript", "onnxruntime"]:
        print(f"{package} {importlib.metadata.version(package)}")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for part in parser.parse_args().part or parts:
        print(part)
        parts[part]()


if __name__ == "__main__":
    main()
