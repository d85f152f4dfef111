"""ResNet-50 with random weights in onnxruntime on one thread: for each line read, runs one image and prints the seconds it took."""

import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
nodes, weights = [], []


def node(kind, inputs, **attributes):
    output = f"v{len(nodes)}"
    nodes.append(helper.make_node(kind, inputs, [output], **attributes))
    return output


def weight(*shape):
    values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)
    weights.append(numpy_helper.from_array(values.astype(np.float32), f"w{len(weights)}"))
    return weights[-1].name


def conv(x, channels, outputs, kernel, stride=1):
    pads = [kernel // 2] * 4
    inputs = [x, weight(outputs, channels, kernel, kernel), weight(outputs)]
    return node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)


def relu(x):
    return node("Relu", [x])


x = relu(conv("x", 3, 64, 7, 2))
x = node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
channels = 64
for stage, count in enumerate([3, 4, 6, 3]):
    width = 64 << stage
    for block in range(count):
        stride = 2 if block == 0 and stage > 0 else 1
        shortcut = conv(x, channels, 4 * width, 1, stride) if block == 0 else x
        y = relu(conv(x, channels, width, 1))
        y = relu(conv(y, width, width, 3, stride))
        x = relu(node("Add", [conv(y, width, 4 * width, 1), shortcut]))
        channels = 4 * width
x = node("Flatten", [node("GlobalAveragePool", [x])])
node("Gemm", [x, weight(1000, channels)], transB=1)

image, scores = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in [("x", [1, 3, 224, 224]), (nodes[-1].output[0], [1, 1000])])
graph = helper.make_graph(nodes, "resnet50", [image], [scores], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
feed = {"x": rng.random((1, 3, 224, 224), dtype=np.float32) - 0.5}
session.run(None, feed)
for _ in sys.stdin:
    start = time.perf_counter()
    session.run(None, feed)
    print(time.perf_counter() - start, flush=True)
