"""Small networks that together have every differentiable operator, and their derivatives by torch in f64.

A network is ONNX's text form. `run` is a small interpreter of it in torch; its outputs are compared with onnxruntime's, so that what is
differentiated is what the file says. Inputs are drawn again until no element is near a kink (a maximum nearly shared, a Relu at nearly 0),
where a derivative in f32 may fall on the other side.
"""

import itertools

import numpy as np
import onnx
import onnx.parser
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

import generator

# Name, opset, nodes, inputs, weights (initializers; those of Conv, ConvTranspose, Gemm and MatMul are layers), outputs. `x` is the
# first input; the others are parameters that no layer is, given as inputs so that the derivative by them can be asked for.
NETS = []


def net(name, text, inputs, weights, opset=18, outputs=("y",)):
    NETS.append((name, opset, text, inputs, weights, outputs))


net(
    "conv",
    """
    a = Conv<pads=[1, 2, 0, 1], strides=[1, 2]>(x, w1, b1)
    b = Tanh(a)
    c = Conv<group=2, pads=[1, 1, 1, 1], dilations=[2, 1]>(b, w2)
    d = Sigmoid(c)
    e = Conv<group=6, auto_pad="SAME_UPPER">(d, w3, b3)
    f = Softplus(e)
    g = ConvTranspose<group=2, strides=[2, 3], output_padding=[1, 0], pads=[1, 0, 0, 1]>(f, w4, b4)
    h = Gelu(g)
    y = Conv(h, w5)
    """,
    {"x": (2, 3, 8, 9), "b1": (4,), "b3": (6,), "b4": (4,)},
    {"w1": (4, 3, 3, 2), "w2": (6, 2, 3, 3), "w3": (6, 1, 2, 3), "w4": (6, 2, 3, 3), "w5": (2, 4, 1, 1)},
    opset=20,
)
net(
    "conv1d",
    """
    a = Conv<pads=[2, 1], dilations=[2], strides=[1]>(x, w1)
    b = Elu<alpha=0.7>(a)
    c = Conv<group=4, auto_pad="SAME_LOWER", strides=[2]>(b, w2, b2)
    d = Tanh(c)
    y = ConvTranspose<dilations=[2], strides=[2], pads=[1, 1]>(d, w3)
    """,
    {"x": (2, 3, 13), "b2": (4,)},
    {"w1": (4, 3, 3), "w2": (4, 1, 4), "w3": (4, 2, 3)},
)
net(
    "norms",
    """
    a = BatchNormalization<epsilon=0.001>(x, gamma, beta, mean, variance)
    b = LRN<size=3, alpha=0.9, beta=0.75, bias=1.5>(a)
    c = Conv<pads=[1, 1, 1, 1]>(b, w1)
    d = InstanceNormalization<epsilon=0.01>(c, scale, shift)
    t = Tanh(d)
    e = LayerNormalization<axis=-1, epsilon=0.001>(t, lscale, lshift)
    f = PRelu(e, slope)
    g = LayerNormalization<axis=1>(f, tscale)
    y = Conv(g, w2)
    """,
    {
        "x": (2, 5, 4, 6), "gamma": (5,), "beta": (5,), "scale": (4,), "shift": (4,), "lscale": (6,), "lshift": (6,),
        "slope": (4, 1, 1), "tscale": (4, 4, 6), "mean": (5,), "variance": (5,),
    },
    {"w1": (4, 5, 3, 3), "w2": (2, 4, 2, 2)},
)  # fmt: skip
net(
    "unary",
    """
    a = MatMul(x, w1)
    a1, a2, a3, a4, a5, a6 = Split<axis=1, num_outputs=6>(a)
    r = Relu(a1)
    l = LeakyRelu<alpha=0.2>(a2)
    e = Elu<alpha=1.5>(a3)
    h = HardSigmoid<alpha=0.3, beta=0.4>(a4)
    s = HardSwish(a5)
    c = Clip(a6, low, high)
    b = Concat<axis=1>(r, l, e, h, s, c)
    b1, b2, b3, b4, b5, b6 = Split<axis=1, num_outputs=6>(b)
    f1 = Sigmoid(b1)
    f2 = Tanh(b2)
    f3 = Gelu(b3)
    f4 = Gelu<approximate="tanh">(b4)
    f5 = Erf(b5)
    f6 = Softplus(b6)
    f = Concat<axis=1>(f1, f2, f3, f4, f5, f6)
    g = MatMul(f, w2)
    g1, g2, g3, g4, g5, g6 = Split<axis=1, num_outputs=6>(g)
    p1 = Exp(g1)
    p2 = Abs(g2)
    q1 = Sqrt(p1)
    q2 = Log(p1)
    q3 = Reciprocal(p1)
    q4 = Neg(g3)
    q5 = Relu(g4)
    q6 = Identity(g5)
    q7 = Clip(g6, low)
    y = Concat<axis=1>(q1, q2, q3, q4, q5, q6, q7, p2)
    """,
    {"x": (3, 7)},
    {"w1": (7, 18), "w2": (18, 12), "low": -0.4, "high": 0.6},
    opset=20,
)
net(
    "binary",
    """
    a = Conv(x, w1)
    b = Add(a, p1)
    c = Mul(p2, b)
    d = Sub(c, a)
    e = Exp(p3)
    f = Div(d, e)
    g = Div(p4, e)
    h = Mul(f, g)
    i = Exp(h)
    j = Pow(i, p5)
    k = Pow(d, two)
    l = Add(j, k)
    m = Min(l, p1)
    n = Max(m, h)
    o = Sub(p6, n)
    y = Add(o, o)
    """,
    {"x": (2, 3, 3, 4), "p1": (4, 1, 1), "p2": (2, 1, 3, 1), "p3": (1, 4, 3, 4), "p4": (4,), "p5": (1,), "p6": ()},
    {"w1": (4, 3, 1, 1), "two": 2.0},
)
net(
    "pools",
    """
    a = Conv<pads=[1, 1, 1, 1]>(x, w1)
    b = MaxPool<kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]>(a)
    c = MaxPool<kernel_shape=[2, 2], strides=[2, 2], dilations=[2, 1], ceil_mode=1>(a)
    d = AveragePool<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1>(b)
    e = AveragePool<kernel_shape=[2, 3], pads=[1, 1, 0, 1], count_include_pad=1>(c)
    f = GlobalAveragePool(d)
    g = GlobalMaxPool(e)
    h = ReduceMean<keepdims=0>(a, last)
    i = ReduceSum<keepdims=1>(e, spatial)
    j = ReduceMax<keepdims=1>(d, spatial)
    k = ReduceMin<keepdims=0>(a, spatial)
    l = Concat<axis=1>(f, g, i, j)
    m = Flatten(l)
    n = Flatten(h)
    o = AveragePool<kernel_shape=[2, 2], auto_pad="SAME_UPPER">(d)
    q = Flatten(o)
    y = Concat<axis=-1>(m, n, k, q)
    """,
    {"x": (2, 2, 7, 9)},
    {"w1": (3, 2, 3, 3), "last": [-1], "spatial": [2, 3]},
)
net(
    "arrange",
    """
    a = Conv(x, w1)
    b = DepthToSpace<blocksize=2, mode="DCR">(a)
    c = DepthToSpace<blocksize=2, mode="CRD">(a)
    d = Mul(b, c)
    e = SpaceToDepth<blocksize=4>(d)
    f = Conv(e, w2)
    g = Transpose<perm=[0, 3, 1, 2]>(f)
    h = Reshape(g, shape)
    i = Unsqueeze(h, two)
    j = Squeeze(i, two)
    k, l = Split<axis=2>(j, sizes)
    m = Pad<mode="reflect">(k, pads_reflect)
    n = Pad<mode="edge">(l, pads_edge)
    o = Pad(l, pads_constant, half)
    q = Slice(m, starts, ends, axes, steps)
    r = Gather<axis=2>(n, indices)
    s = ReduceSum<keepdims=1>(o, last)
    t = Expand(s, wide)
    u = Mul(t, o)
    v = Flatten<axis=1>(q)
    w = Flatten<axis=1>(r)
    z = Flatten<axis=1>(u)
    y = Concat<axis=1>(v, w, z)
    """,
    {"x": (2, 3, 4, 8)},
    {
        "w1": (8, 3, 1, 1), "w2": (6, 32, 1, 1), "shape": [0, -1, 6], "two": [2], "sizes": [4, 2], "pads_reflect": [0, 0, 2, 0, 1, 1],
        "pads_edge": [0, 1, 0, 0, 0, 2], "pads_constant": [0, -1, 1, 0, 2, 0], "half": 0.5, "starts": [-1, 0, 6], "ends": [-100, 9, 0],
        "axes": [0, 1, 2], "steps": [-1, 2, -2], "indices": [[2, 0], [0, -1]], "last": [2], "wide": [2, 1, 3],
    },
)  # fmt: skip
RESIZE = {
    "r1": ('mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"', "double"),
    "r2": ('mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"', "odd"),
    "r3": ('mode="nearest", coordinate_transformation_mode="align_corners", nearest_mode="round_prefer_ceil"', "odd"),
    "r4": ('mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="ceil"', "odd"),
    "r5": ('mode="linear", coordinate_transformation_mode="half_pixel"', "double"),
    "r6": ('mode="linear", coordinate_transformation_mode="align_corners"', "odd"),
    "r7": ('mode="linear", coordinate_transformation_mode="asymmetric"', "odd"),
    "r8": ('mode="linear", coordinate_transformation_mode="pytorch_half_pixel"', "line"),
    "r9": ('mode="linear", coordinate_transformation_mode="half_pixel_symmetric"', "small"),
}
net(
    "resize",
    "a = Conv(x, w1)\n"
    + "\n".join(
        f"{name} = Resize<{attributes}>(a, , {to if to == 'double' or to == 'small' else ''}{', ' + to if to in ('odd', 'line') else ''})\n"
        f"f{name} = Flatten({name})"
        for name, (attributes, to) in RESIZE.items()
    )
    + "\ny = Concat<axis=1>(" + ", ".join("f" + name for name in RESIZE) + ")",
    {"x": (2, 2, 4, 5)},
    {"w1": (2, 2, 1, 1), "double": np.float32([1, 1, 2, 2]), "small": np.float32([1, 1, 0.7, 1.3]), "odd": [2, 2, 7, 3], "line": [2, 2, 1, 9]},
    opset=19,
)  # fmt: skip
net(
    "dense",
    """
    a = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w1, c1)
    b = Softmax<axis=-1>(a)
    c = Gemm<transA=1>(b, p1)
    d = Gemm<transA=1, transB=1>(c, w2, c2)
    e = Reshape(d, shape)
    q = MatMul(e, w3)
    k = MatMul(e, w4)
    kt = Transpose<perm=[0, 2, 1]>(k)
    s = MatMul(q, kt)
    n = Softmax<axis=2>(s)
    v = MatMul(e, w5)
    o = MatMul(n, v)
    l = LogSoftmax<axis=1>(o)
    t = MatMul(l, p2)
    u = MatMul(p3, l)
    z = MatMul(p4, l)
    fl = Flatten(l)
    ft = Flatten(t)
    fu = Flatten(u)
    fz = Flatten(z)
    y = Concat<axis=1>(fl, ft, fu, fz)
    """,
    {"x": (4, 5), "c1": (6,), "p1": (4, 3), "c2": (3, 1), "p2": (4,), "p3": (3,), "p4": (2, 1, 2, 3)},
    {"w1": (6, 5), "w2": (8, 6), "w3": (4, 5), "w4": (4, 5), "w5": (4, 4), "shape": [2, 3, 4]},
)
net(
    "shared",
    """
    a = Conv<pads=[1, 1, 1, 1]>(x, w1)
    b = Tanh(a)
    c = Conv<pads=[1, 1, 1, 1]>(b, w1)
    d = Add(b, c)
    e = Sigmoid(d)
    m = ReduceMean<keepdims=0>(e, spatial)
    f = Gemm<transB=1>(m, w2)
    wt = Transpose<perm=[1, 0]>(w2)
    y = MatMul(f, wt)
    u = Gemm(f, w2)
    g = MatMul(m, w2)
    z = Mul(u, g)
    """,
    {"x": (2, 3, 5, 5)},
    {"w1": (3, 3, 3, 3), "w2": (3, 3), "spatial": [2, 3]},
    outputs=("y", "z"),
)
net(
    "opset9",
    """
    a = Conv(x, w1)
    b = Upsample<mode="nearest">(a, double)
    c = Pad<mode="constant", pads=[0, 0, 1, 0, 0, 0, 0, 2], value=0.3>(b)
    d = Clip<min=-0.6, max=0.9>(c)
    e = Slice<axes=[2, 3], starts=[1, -4], ends=[9, 1000]>(d)
    f, g = Split<axis=1, split=[1, 3]>(e)
    h = Softmax<axis=1>(g)
    i = ReduceSum<axes=[2, 3], keepdims=1>(h)
    j = Unsqueeze<axes=[0]>(i)
    k = Squeeze<axes=[0]>(j)
    l = Mul(k, f)
    m = Upsample<mode="linear">(l, double)
    n = Dropout<ratio=0.5>(m)
    o = Flatten(n)
    p = LogSoftmax<axis=1>(g)
    q = Flatten(p)
    y = Concat<axis=1>(o, q)
    """,
    {"x": (2, 2, 3, 4)},
    {"w1": (4, 2, 1, 1), "double": np.float32([1, 1, 2, 2])},
    opset=9,
)


class Run:
    """One pass through a network in torch; `margin` is the least distance of an element to a kink."""

    def __init__(self, graph, opset, known):
        self.opset = opset
        self.margin = 1.0
        self.values = dict(known)
        for node in graph.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            attributes = {k: v.decode() if isinstance(v, bytes) else v for k, v in attributes.items()}
            inputs = [self.values[i] if i else None for i in node.input]
            result = getattr(self, node.op_type)(*inputs, **attributes)
            for name, value in zip(node.output, result if isinstance(result, (list, tuple)) else [result]):
                self.values[name] = value

    def kink(self, distance):
        """Notes distances to a kink; one that is exactly none is a tie of copies, not a kink."""
        distance = distance.detach().abs()
        if distance.numel():
            self.margin = min(self.margin, float(distance.min()))

    def gap(self, x, dims):
        """Notes the gap between the greatest and the next of `dims`."""
        x = x.detach().movedim(dims, list(range(-len(dims), 0))).flatten(-len(dims))
        if x.shape[-1] > 1:
            top = x.topk(2, -1).values
            self.kink((top[..., 0] - top[..., 1])[torch.isfinite(top[..., 1])])

    # Convolutions. Windows are resolved as ONNX has it; one spatial axis becomes two of which the first has length 1.

    def window(self, x, kernel, auto_pad="NOTSET", pads=None, strides=None, dilations=None, **_):
        n = len(kernel)
        strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * 2 * n
        if auto_pad != "NOTSET":
            need = [max((-(-i // s) - 1) * s + (k - 1) * d + 1 - i, 0) for i, k, s, d in zip(x.shape[2:], kernel, strides, dilations)]
            small, large = [p // 2 for p in need], [p - p // 2 for p in need]
            pads = small + large if auto_pad == "SAME_UPPER" else large + small
        return pads, strides, dilations

    def padded(self, x, pads, value=0.0):
        n = len(pads) // 2
        return F.pad(x, [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])], value=value)

    def Conv(self, x, w, b=None, group=1, **a):
        pads, strides, dilations = self.window(x, w.shape[2:], **a)
        conv = F.conv1d if x.dim() == 3 else F.conv2d
        return conv(self.padded(x, pads), w, b, strides, 0, dilations, group)

    def ConvTranspose(self, x, w, b=None, group=1, output_padding=None, **a):
        pads, strides, dilations = self.window(x, w.shape[2:], **a)
        n = len(strides)
        extra = output_padding or [0] * n
        conv = F.conv_transpose1d if n == 1 else F.conv_transpose2d
        y = conv(x, w, None, strides, 0, 0, group, dilations)
        y = self.padded(y, [-p for p in pads[:n]] + [e - p for p, e in zip(pads[n:], extra)])
        return y if b is None else y + b.view(-1, *[1] * n)

    # Elementwise.

    def Relu(self, x):
        self.kink(x)
        return F.relu(x)

    def LeakyRelu(self, x, alpha=0.01):
        self.kink(x)
        return F.leaky_relu(x, alpha)

    def PRelu(self, x, slope):
        self.kink(x)
        return torch.where(x > 0, x, slope * x)

    def Elu(self, x, alpha=1.0):
        self.kink(x)
        return F.elu(x, alpha)

    def HardSigmoid(self, x, alpha=0.2, beta=0.5):
        return self.Clip(alpha * x + beta, 0.0, 1.0)

    def HardSwish(self, x):
        return x * self.HardSigmoid(x, 1 / 6)

    def Clip(self, x, low=None, high=None, min=None, max=None):
        for bound in (low if low is not None else min, high if high is not None else max):
            if bound is not None:
                self.kink(x - bound)
        if low is not None or min is not None:
            x = torch.maximum(x, torch.as_tensor(low if low is not None else min, dtype=x.dtype))
        if high is not None or max is not None:
            x = torch.minimum(x, torch.as_tensor(high if high is not None else max, dtype=x.dtype))
        return x

    def Abs(self, x):
        self.kink(x)
        return x.abs()

    def Max(self, a, b):
        self.kink(a - b)
        return torch.maximum(a, b)

    def Min(self, a, b):
        self.kink(a - b)
        return torch.minimum(a, b)

    def Gelu(self, x, approximate="none"):
        return F.gelu(x, approximate=approximate)

    Sigmoid, Tanh, Erf, Sqrt, Exp, Log, Neg, Reciprocal, Softplus = map(
        staticmethod, (torch.sigmoid, torch.tanh, torch.erf, torch.sqrt, torch.exp, torch.log, torch.neg, torch.reciprocal, F.softplus)
    )
    Add, Sub, Mul, Div, Pow, MatMul = map(staticmethod, (torch.add, torch.sub, torch.mul, torch.div, torch.pow, torch.matmul))
    Identity = staticmethod(lambda x: x)
    Dropout = staticmethod(lambda x, ratio: x)

    # Norms.

    def BatchNormalization(self, x, gamma, beta, mean, variance, epsilon=1e-5):
        c = lambda t: t.view(-1, *[1] * (x.dim() - 2))
        return (x - c(mean)) / torch.sqrt(c(variance) + epsilon) * c(gamma) + c(beta)

    def InstanceNormalization(self, x, scale, shift, epsilon=1e-5):
        return F.instance_norm(x, weight=scale, bias=shift, eps=epsilon)

    def LayerNormalization(self, x, scale, shift=None, axis=-1, epsilon=1e-5):
        return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), shift, epsilon)

    def LRN(self, x, size, alpha=1e-4, beta=0.75, bias=1.0):
        return F.local_response_norm(x, size, alpha, beta, bias)

    # Pools.

    def patches(self, x, kernel, fill, ceil_mode=0, **a):
        """All windows: N×C×out…×window, elements beyond the edge are `fill`."""
        pads, strides, dilations = self.window(x, kernel, **a)
        n = len(kernel)
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
        rooms = [i + pads[j] + pads[n + j] - s for j, (i, s) in enumerate(zip(x.shape[2:], span))]
        out = [(-(-r // s) if ceil_mode else r // s) + 1 for r, s in zip(rooms, strides)]
        # A window that starts beyond the image and its first pads does not count.
        out = [o - 1 if ceil_mode and (o - 1) * s >= i + pads[j] else o for j, (o, s, i) in enumerate(zip(out, strides, x.shape[2:]))]
        hang = [max((o - 1) * s + k - i - pads[j], 0) for j, (o, s, k, i) in enumerate(zip(out, strides, span, x.shape[2:]))]
        x = self.padded(x, pads[:n] + hang, fill)
        for j in range(n):
            at = torch.arange(out[j])[:, None] * strides[j] + torch.arange(kernel[j]) * dilations[j]
            x = x.index_select(2 + j, at.flatten()).unflatten(2 + j, at.shape).movedim(3 + j, -1)
        return x.flatten(-n)

    def MaxPool(self, x, kernel_shape, **a):
        patches = self.patches(x, kernel_shape, -torch.inf, **a)
        self.gap(patches, [patches.dim() - 1])
        return patches.amax(-1)

    def AveragePool(self, x, kernel_shape, count_include_pad=0, **a):
        inside = torch.ones_like(x)
        if count_include_pad:
            assert not a.get("ceil_mode")
            return self.patches(x, kernel_shape, 0.0, **a).mean(-1)
        return self.patches(x, kernel_shape, 0.0, **a).sum(-1) / self.patches(inside, kernel_shape, 0.0, **a).sum(-1)

    def axes(self, x, axes):
        return [int(a) % x.dim() for a in (range(x.dim()) if axes is None else axes)]

    def ReduceMean(self, x, axes=None, keepdims=1):
        return x.mean(self.axes(x, axes), keepdim=bool(keepdims))

    def ReduceSum(self, x, axes=None, keepdims=1):
        return x.sum(self.axes(x, axes), keepdim=bool(keepdims))

    def ReduceMax(self, x, axes=None, keepdims=1):
        self.gap(x, self.axes(x, axes))
        return x.amax(self.axes(x, axes), keepdim=bool(keepdims))

    def ReduceMin(self, x, axes=None, keepdims=1):
        return -self.ReduceMax(-x, axes, keepdims)

    def GlobalAveragePool(self, x):
        return self.ReduceMean(x, range(2, x.dim()))

    def GlobalMaxPool(self, x):
        return self.ReduceMax(x, range(2, x.dim()))

    def Softmax(self, x, axis=None, log=False):
        function = F.log_softmax if log else F.softmax
        if self.opset >= 13:
            return function(x, -1 if axis is None else axis)
        axis = 1 if axis is None else axis
        return function(x.flatten(axis), -1).view(x.shape)

    def LogSoftmax(self, x, axis=None):
        return self.Softmax(x, axis, log=True)

    def Gemm(self, a, b, c=None, alpha=1.0, beta=1.0, transA=0, transB=0):
        y = alpha * ((a.T if transA else a) @ (b.T if transB else b))
        return y if c is None else y + beta * c

    # Arrangement.

    def Reshape(self, x, shape):
        return x.reshape([x.shape[i] if n == 0 else int(n) for i, n in enumerate(shape)])

    def Flatten(self, x, axis=1):
        return x.reshape(int(np.prod(x.shape[:axis])), -1)

    def Transpose(self, x, perm):
        return x.permute(perm)

    def Unsqueeze(self, x, axes):
        for axis in axes:
            x = x.unsqueeze(int(axis))
        return x

    def Squeeze(self, x, axes):
        return x.squeeze([int(a) for a in axes])

    def Concat(self, *x, axis):
        return torch.cat(x, axis)

    def Split(self, x, sizes=None, axis=0, num_outputs=None, split=None):
        sizes = split if sizes is None else sizes
        return x.split(x.shape[axis] // num_outputs if sizes is None else [int(s) for s in sizes], axis)

    def Slice(self, x, starts, ends, axes, steps=None):
        for start, end, axis, step in zip(starts, ends, axes, steps if steps is not None else itertools.repeat(1)):
            at = range(x.shape[axis])[slice(int(start), int(end), int(step))]
            x = x.index_select(int(axis), torch.tensor(list(at)))
        return x

    def Pad(self, x, pads, value=0.0, mode="constant"):
        n = x.dim()
        for axis in range(n):
            before, after = int(pads[axis]), int(pads[n + axis])
            length = x.shape[axis]
            at = torch.arange(-before, length + after)
            inside = (at >= 0) & (at < length)
            if mode == "reflect":
                at = torch.where(at < 0, -at, at)
                at = torch.where(at >= length, 2 * (length - 1) - at, at)
            x = x.index_select(axis, at.clamp(0, length - 1))
            if mode == "constant":
                x = torch.where(inside.view(-1, *[1] * (n - 1 - axis)), x, torch.as_tensor(value, dtype=x.dtype))
        return x

    def Expand(self, x, shape):
        return x.expand(torch.broadcast_shapes(x.shape, tuple(int(s) for s in shape)))

    def Gather(self, x, indices, axis=0):
        indices = indices % x.shape[axis]
        return x.index_select(axis, indices.flatten()).unflatten(axis, indices.shape)

    def DepthToSpace(self, x, blocksize, mode="DCR"):
        n, c, h, w = x.shape
        if mode == "CRD":
            return F.pixel_shuffle(x, blocksize)
        return x.reshape(n, blocksize, blocksize, -1, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * blocksize, w * blocksize)

    def SpaceToDepth(self, x, blocksize):
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
        return x.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // blocksize, w // blocksize)

    # Resampling: a matrix for every axis.

    def Upsample(self, x, scales, mode="nearest"):
        return self.Resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def Resize(self, x, roi, scales, sizes=None, mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"):
        for axis in range(x.dim()):
            n = x.shape[axis]
            m = int(np.floor(n * float(scales[axis]))) if sizes is None else int(sizes[axis])
            scale = float(scales[axis]) if sizes is None else m / n
            if scale == 1:
                continue
            at = np.arange(m, dtype=np.float64)
            match coordinate_transformation_mode:
                case "half_pixel":
                    at = (at + 0.5) / scale - 0.5
                case "pytorch_half_pixel":
                    at = (at + 0.5) / scale - 0.5 if m > 1 else 0 * at
                case "half_pixel_symmetric":
                    at = n / 2 * (1 - m / (scale * n)) + (at + 0.5) / scale - 0.5
                case "align_corners":
                    at = at * (n - 1) / (m - 1) if m > 1 else 0 * at
                case "asymmetric":
                    at = at / scale
            matrix = np.zeros((m, n))
            if mode == "nearest":
                near = {
                    "round_prefer_floor": lambda v: np.ceil(v - 0.5),
                    "round_prefer_ceil": lambda v: np.floor(v + 0.5),
                    "floor": np.floor,
                    "ceil": np.ceil,
                }[nearest_mode](np.round(at, 9))
                matrix[np.arange(m), near.clip(0, n - 1).astype(int)] = 1
            else:
                at = at.clip(0, n - 1)
                low = np.floor(at).astype(int)
                np.add.at(matrix, (np.arange(m), low), 1 - (at - low))
                np.add.at(matrix, (np.arange(m), (low + 1).clip(0, n - 1)), at - low)
            x = torch.tensordot(x, torch.from_numpy(matrix), ([axis], [1])).movedim(-1, axis)
        return x


def values(shape, seed, name):
    """Drawn values: variances are positive, scales near 1."""
    centre, amplitude = {"variance": (1.0, 0.5), "gamma": (1.0, 0.5), "scale": (1.0, 0.5), "p5": (1.5, 0.1)}.get(name, (0.0, 1.0))
    if name[0] == "w" and len(shape) > 1:
        amplitude = (3 / max(int(np.prod(shape[1:])), 1)) ** 0.5 * 1.5
    return generator.tensor(seed, shape, centre, amplitude)


def attempt(name, opset, text, inputs, weights, outputs, seed, session):
    """One draw of all values. Gives what is saved, and the least distance to a kink."""
    seeds = itertools.count(seed)
    given = {i: values(shape, next(seeds), i) for i, shape in inputs.items()}
    fixed = {}
    for w, content in weights.items():
        if isinstance(content, tuple):
            fixed[w] = values(content, next(seeds), w)
        else:
            fixed[w] = np.asarray(content, np.float32 if np.asarray(content).dtype.kind == "f" else np.int64)
    declare = lambda names: ", ".join(f"float[{','.join(map(str, given[n].shape))}] {n}" for n in names)
    lines = "\n".join(line.strip() for line in text.strip().splitlines())
    graph = onnx.parser.parse_graph(f"{name} ({declare(inputs)}) => ({', '.join('float ' + o for o in outputs)}) {{\n{lines}\n}}")
    for w, content in fixed.items():
        graph.initializer.append(numpy_helper.from_array(content, w))
    for output in graph.output:  # No shape is said.
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.FLOAT, None))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)

    tensors = {n: torch.from_numpy(v) for n, v in (given | fixed).items()}
    tensors = {n: v.double().requires_grad_() if v.is_floating_point() else v for n, v in tensors.items()}
    result = Run(graph, opset, tensors)
    v = {o: generator.tensor(next(seeds), tuple(result.values[o].shape)) for o in outputs}
    sum((result.values[o] * torch.from_numpy(v[o])).sum() for o in outputs).backward()

    arrays = {"graph": np.frombuffer(model.SerializeToString(deterministic=True), np.uint8)}
    arrays |= {f"input/{n}": x for n, x in given.items()}
    arrays |= {f"seed/{o}": v[o] for o in outputs}
    arrays |= {f"output/{o}": result.values[o].detach().float().numpy() for o in outputs}
    differentiable = [n for n in inputs if n not in ("mean", "variance")] + [w for w, c in weights.items() if isinstance(c, tuple)]
    arrays |= {f"gradient/{n}": tensors[n].grad.float().numpy() for n in differentiable}
    return arrays, result.margin, model


def make(save, session):
    arrays = {}
    operators = set()
    for name, opset, text, inputs, weights, outputs in NETS:
        for seed in itertools.count(generator.seed_of("gradients/" + name), 100):
            found, margin, model = attempt(name, opset, text, inputs, weights, outputs, seed, session)
            if margin > 5e-4:
                break
        given = {n.removeprefix("input/"): a for n, a in found.items() if n.startswith("input/")}
        worst = 0.0
        for output, y in zip(outputs, session(model.SerializeToString()).run(list(outputs), given)):
            expected = found[f"output/{output}"]
            assert y.shape == expected.shape, (name, y.shape, expected.shape)
            worst = max(worst, float(np.abs(y - expected).max() / np.ptp(expected)))
        assert worst < 1e-5, (name, worst)
        operators |= {node.op_type for node in model.graph.node}
        norms = {n: float(np.abs(a).max()) for n, a in found.items() if n.startswith("gradient/")}
        assert min(norms.values()) > 1e-3 * max(norms.values()), (name, norms)
        print(f"  {name}: margin {margin:.1e}, onnxruntime differs by {worst:.1e} of the range, {found['graph'].size} bytes")
        arrays |= {f"{name}/{key}": a for key, a in found.items()}
    print("  operators:", *sorted(operators))
    save("gradients.npz", arrays)
