"""Trains the three sample networks of Waterfill and writes them as ONNX, with the held-out images.

    pip install -r docs/samples/requirements.txt
    python docs/samples/train.py --out www/samples                     # all three, about two minutes on one core
    python docs/samples/train.py --out www/samples --only resnet
    python docs/samples/train.py --validate                            # what the settings were checked with

Data: the UCI handwritten digits that come with scikit-learn (8x8 pixels, 17 grey levels, 1797 images). A stratified,
seeded split keeps 600 of them out: they become `digits-test.npz` and take no part in training, in normalisation
constants or in any choice. `--validate` sets a fifth of the TRAINING images aside instead and never touches the 600;
number of epochs, learning rate, augmentation and weight decay were checked with it, once. See docs/samples.md.
"""

import argparse
import json
import os
import time

# One thread: sums are then taken in one order, so that a second run on the same machine gives the same bytes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 2021  # The year of the paper this project implements.
HELD_OUT = 600
OPSET = 18
BATCH = 64
# Of the training images after x/255, rounded: written into the model's metadata and checked in `prepare`.
MEAN, STD = 0.3060, 0.3762


class AlexNet(nn.Module):
    """Five convolutions, three dense layers, no normalisation: the layout of Krizhevsky et al. 2012 on 8x8 pixels.

    As in the original most weights are near or in the dense layers. Input N x 1 x 8 x 8, output N x 10.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 40, 3, padding=1)
        self.conv4 = nn.Conv2d(40, 40, 3, padding=1)
        self.conv5 = nn.Conv2d(40, 32, 3, padding=1)
        self.fc6 = nn.Linear(128, 160)
        self.fc7 = nn.Linear(160, 96)
        self.fc8 = nn.Linear(96, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = F.max_pool2d(F.relu(self.conv5(x)), 2)
        x = torch.flatten(x, 1)
        x = F.dropout(F.relu(self.fc6(x)), 0.3, self.training)
        x = F.dropout(F.relu(self.fc7(x)), 0.3, self.training)
        return self.fc8(x)


class ResidualBlock(nn.Module):
    """conv-bn-relu-conv-bn plus the input, which passes a 1x1 convolution where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential()
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-14 (He et al. 2016, the CIFAR layout): three stages of two blocks. The exporter folds batch norm into the convolutions."""

    def __init__(self, widths=(16, 24, 40), blocks=2):
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for stage, width in enumerate(widths):
            layers = []
            for block in range(blocks):
                layers.append(ResidualBlock(inputs, width, 2 if stage > 0 and block == 0 else 1))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class DenseLayer(nn.Module):
    """bn-relu-conv1x1-bn-relu-conv3x3, its output appended to its input (Huang et al. 2017, DenseNet-B)."""

    def __init__(self, inputs, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


class Transition(nn.Module):
    """bn-relu-conv1x1 to half the channels, then 2x2 average pooling (DenseNet-C)."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x):
        return F.avg_pool2d(self.conv(F.relu(self.norm(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-BC: three dense blocks of four layers, growth 10. Batch norm stands before the activation and cannot all be folded: it stays in the graph."""

    def __init__(self, growth=10, layers=4, first=20):
        super().__init__()
        self.conv0 = nn.Conv2d(1, first, 3, padding=1, bias=False)
        channels, parts = first, []
        for block in range(3):
            dense = nn.Sequential()
            for layer in range(layers):
                dense.add_module(f"layer{layer + 1}", DenseLayer(channels, growth))
                channels += growth
            parts.append((f"block{block + 1}", dense))
            if block < 2:
                parts.append((f"transition{block + 1}", Transition(channels, channels // 2)))
                channels //= 2
        self.features = nn.Sequential()
        for name, part in parts:
            self.features.add_module(name, part)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.features(self.conv0(x))))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


# name -> (network, epochs, largest learning rate, weight decay)
NETWORKS = {
    "alexnet": (AlexNet, 120, 2e-3, 1e-2),
    "resnet": (ResNet, 100, 4e-3, 5e-2),
    "densenet": (DenseNet, 80, 4e-3, 5e-2),
}


def digits():
    """Images as uint8 N x 8 x 8 x 1 in 0..255 (the 17 levels times 255/16, rounded), labels as uint8; training part, then held-out part."""
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = data.target.astype(np.uint8)
    train, test = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SEED)
    return (images[train], labels[train]), (images[test], labels[test])


def prepare(images):
    """uint8 N x H x W x C to the float32 N x C x H x W tensor that the networks take: (x/255 - mean)/std."""
    x = (images.astype(np.float32) / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def augment(x, generator):
    """A random affine map per image: up to 10 degrees of rotation, 10 % of scale and of shear, one pixel of shift; the paper's white is what comes in from outside."""
    n = len(x)
    draw = lambda limit: (2 * torch.rand(n, generator=generator) - 1) * limit
    angle, scale, shear = draw(np.pi / 18), 1 + draw(0.1), draw(0.1)
    pixel = 2 / x.shape[-1]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [torch.stack([cos, -sin + shear, draw(pixel)], 1), torch.stack([sin, cos, draw(pixel)], 1)], 1
    )
    paper = -MEAN / STD
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x - paper, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + paper


def train(name, images, labels):
    """Trains the network `name` from the seed; returns it in evaluation mode. No other data are looked at."""
    build, epochs, rate, decay = NETWORKS[name]
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    network = build()
    x, y = prepare(images), torch.from_numpy(labels.astype(np.int64))
    steps = -(-len(x) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * steps)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            loss = F.cross_entropy(network(augment(x[batch], generator)), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        if (epoch + 1) % 20 == 0:
            print(f"  {name}: epoch {epoch + 1} of {epochs}, training loss {total / len(x):.4f}", flush=True)
    return network.eval()


def export(name, network, path):
    """Writes the network as ONNX: input `input` N x 1 x 8 x 8 with a free batch size, output `logits` N x 10, the parameters' own names."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["input"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: batch},),
        optimize=True,
        verbose=False,
    )
    model = program.model_proto
    # The exporter notes a stack trace at every node, with paths of this machine, and tensors nobody reads.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for part in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    # Folding batch norm makes biases that it calls `conv1.weight_bias`: to a reader, and to PyTorch, that is `conv1.bias`.
    for part in (*model.graph.initializer, *model.graph.value_info):
        part.name = part.name.replace(".weight_bias", ".bias")
    for node in model.graph.node:
        node.input[:] = [i.replace(".weight_bias", ".bias") for i in node.input]
    used = {i for node in model.graph.node for i in node.input}
    kept = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.name = f"{name}-digits"
    model.doc_string = f"{type(network).__name__} for 8x8 handwritten digits, a sample of Waterfill; see docs/samples.md"
    facts = {
        "input": "N x 1 x 8 x 8 float32 = (x/255 - mean)/std, x uint8 grey level, 0 is paper and 255 is ink",
        "mean": str(MEAN),
        "std": str(STD),
        "labels": "0 1 2 3 4 5 6 7 8 9",
        "data": "UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, doi:10.24432/C50P49, CC BY 4.0",
        "seed": str(SEED),
        # What Waterfill reads (src/report/evaluation.rs, `Preprocessing`).
        "preprocessing": json.dumps(
            {
                "resize": None,
                "crop": None,
                "channels": "grey",
                "scale": 0.003921569,
                "mean": [MEAN],
                "std": [STD],
                "channels_last": False,
                "origin": "written in the model",
            }
        ),
    }
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    with open(path, "wb") as file:
        file.write(data)
    return model, len(data)


def accuracy(path, images, labels):
    """Top-1 of the ONNX file in onnxruntime, in per cent."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"input": prepare(images).numpy()})[0]
    return 100 * float((logits.argmax(1) == labels).mean())


def layers(model):
    """Number of convolutions and dense layers, and of their weights."""
    shape = {i.name: i.dims for i in model.graph.initializer}
    weights = [shape[n.input[1]] for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    return len(weights), sum(int(np.prod(s)) for s in weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="www/samples", help="folder to write to")
    parser.add_argument("--only", choices=sorted(NETWORKS), action="append", help="train only this network")
    parser.add_argument("--validate", action="store_true", help="train on four fifths of the training images, report on the last fifth, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    (images, labels), (test_images, test_labels) = digits()
    mean, std = (images / 255).mean(), (images / 255).std()
    assert abs(mean - MEAN) < 1e-4 and abs(std - STD) < 1e-4, f"MEAN, STD should be {mean:.4f}, {std:.4f}"

    if options.validate:
        part, rest = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=SEED + 1)
    else:
        os.makedirs(options.out, exist_ok=True)
        np.savez_compressed(os.path.join(options.out, "digits-test.npz"), images=test_images, labels=test_labels)
    for name in options.only or NETWORKS:
        started = time.time()
        if options.validate:
            network = train(name, images[part], labels[part])
            with torch.no_grad():
                right = (network(prepare(images[rest])).argmax(1).numpy() == labels[rest]).mean()
            print(f"{name}: {100 * right:.2f} % on {len(rest)} validation images, {time.time() - started:.0f} s", flush=True)
            continue
        network = train(name, images, labels)
        path = os.path.join(options.out, f"{name}-digits.onnx")
        model, size = export(name, network, path)
        count, weights = layers(model)
        print(
            f"{path}: {size} bytes, {count} layers, {weights} weights, {accuracy(path, test_images, test_labels):.2f} % of "
            f"{len(test_labels)} held-out images, {time.time() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
