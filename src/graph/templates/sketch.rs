//! What templates draw with: layers by the names of their tensors.

use std::collections::{HashMap, HashSet};

use crate::{
    graph::{Array, Attribute, Graph, Input, Node, Values},
    io::TensorInfo,
};

/// Version of ONNX's operators that templates are written in.
const OPSET: i64 = 17;

/// A value of the network: what an operator reads and gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    name: String,
    /// Its channels, or features after flattening.
    pub(super) channels: usize,
}

/// A convolution's attributes; its channels follow from its tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv {
    /// Height and width of the kernel.
    pub(super) kernel: usize,
    /// Stride on both axes.
    pub(super) stride: usize,
    /// Padding on all sides.
    pub(super) pad: usize,
    /// Groups.
    pub(super) groups: usize,
    /// Whether it has a bias.
    pub(super) bias: bool,
}

impl Conv {
    /// Stride 1, one group, no bias, and as much padding as keeps the size.
    pub(super) fn new(kernel: usize) -> Conv {
        Conv { kernel, stride: 1, pad: kernel / 2, groups: 1, bias: false }
    }
    /// With another stride.
    pub(super) fn stride(self, stride: usize) -> Conv {
        Conv { stride, ..self }
    }
    /// With other padding.
    pub(super) fn pad(self, pad: usize) -> Conv {
        Conv { pad, ..self }
    }
    /// With groups.
    pub(super) fn groups(self, groups: usize) -> Conv {
        Conv { groups, ..self }
    }
    /// With a bias.
    pub(super) fn bias(self) -> Conv {
        Conv { bias: true, ..self }
    }
}

/// A graph under construction, and the tensors that are not in it yet.
pub(super) struct Sketch<'a> {
    tensors: &'a HashMap<String, &'a TensorInfo>,
    used: HashSet<&'a str>,
    graph: Graph,
}

impl<'a> Sketch<'a> {
    /// An empty graph for these tensors, by their names without prefix.
    pub(super) fn new(tensors: &'a HashMap<String, &'a TensorInfo>) -> Sketch<'a> {
        Sketch { tensors, used: HashSet::new(), graph: Graph { opset: OPSET, ..Graph::default() } }
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.tensors.get(name).map(|t| t.shape.as_slice())
    }

    /// Uses a tensor up: its name in the file. Nothing when it is not there with this shape, or was used before.
    fn take(&mut self, name: &str, shape: &[usize]) -> Option<String> {
        let info = *self.tensors.get(name)?;
        (info.shape == shape && self.used.insert(&info.name)).then(|| info.name.clone())
    }

    /// The graph with this output, if every tensor is in it.
    pub(super) fn finish(mut self, output: Value) -> Option<Graph> {
        self.graph.outputs.push(output.name);
        (self.used.len() == self.tensors.len()).then_some(self.graph)
    }

    /// The input: RGB images of this height and width.
    pub(super) fn input(&mut self, size: usize) -> Value {
        self.graph.inputs.push(Input { name: "input".into(), dims: vec![None, Some(3), Some(size), Some(size)] });
        Value { name: "input".into(), channels: 3 }
    }

    /// Adds a node, whose output has its name.
    fn node(&mut self, op: &str, name: &str, inputs: Vec<String>, attributes: &[(&str, Attribute)], channels: usize) -> Value {
        self.graph.nodes.push(Node {
            name: name.into(),
            op: op.into(),
            domain: String::new(),
            inputs,
            outputs: vec![name.into()],
            attributes: attributes.iter().map(|(key, value)| (key.to_string(), value.clone())).collect(),
        });
        Value { name: name.into(), channels }
    }

    fn constant(&mut self, name: String, shape: Vec<usize>, values: Values) -> String {
        self.graph.constants.insert(name.clone(), Array { shape, values });
        name
    }

    /// A convolution to so many channels, with the tensors `name.weight` and perhaps `name.bias`.
    pub(super) fn conv(&mut self, name: &str, x: &Value, channels: usize, conv: Conv) -> Option<Value> {
        let Conv { kernel, stride, pad, groups, bias } = conv;
        let shape = [channels, x.channels / groups, kernel, kernel];
        let mut inputs = vec![x.name.clone(), self.take(&format!("{name}.weight"), &shape)?];
        if bias {
            inputs.push(self.take(&format!("{name}.bias"), &[channels])?);
        }
        let attributes = [
            ("kernel_shape", ints(&[kernel; 2])),
            ("strides", ints(&[stride; 2])),
            ("pads", ints(&[pad; 4])),
            ("dilations", ints(&[1; 2])),
            ("group", Attribute::Int(groups as i64)),
        ];
        Some(self.node("Conv", name, inputs, &attributes, channels))
    }

    /// A batch norm with the tensors `name.weight`, `.bias`, `.running_mean`, `.running_var`.
    pub(super) fn batch_norm(&mut self, name: &str, x: &Value) -> Option<Value> {
        let mut inputs = vec![x.name.clone()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.take(&format!("{name}.{part}"), &[x.channels])?);
        }
        Some(self.node("BatchNormalization", name, inputs, &[("epsilon", Attribute::Float(1e-5))], x.channels))
    }

    /// `max(x, 0)`.
    pub(super) fn relu(&mut self, name: &str, x: &Value) -> Value {
        self.node("Relu", name, vec![x.name.clone()], &[], x.channels)
    }

    /// `min(max(x, 0), 6)`.
    pub(super) fn relu6(&mut self, name: &str, x: &Value) -> Value {
        let limits = [("relu6.min", 0.0), ("relu6.max", 6.0)];
        let [min, max] = limits.map(|(name, v)| self.constant(name.into(), Vec::new(), Values::Float(vec![v])));
        self.node("Clip", name, vec![x.name.clone(), min, max], &[], x.channels)
    }

    /// `a + b`. Nothing when they have different channels.
    pub(super) fn add(&mut self, name: &str, a: &Value, b: &Value) -> Option<Value> {
        (a.channels == b.channels).then(|| self.node("Add", name, vec![a.name.clone(), b.name.clone()], &[], a.channels))
    }

    /// `a` and `b`, one after the other on the channel axis.
    pub(super) fn concat(&mut self, name: &str, a: &Value, b: &Value) -> Value {
        self.node("Concat", name, vec![a.name.clone(), b.name.clone()], &[("axis", Attribute::Int(1))], a.channels + b.channels)
    }

    /// Greatest value in a window.
    pub(super) fn max_pool(&mut self, name: &str, x: &Value, kernel: usize, stride: usize, pad: usize, ceil: bool) -> Value {
        let attributes = [
            ("kernel_shape", ints(&[kernel; 2])),
            ("strides", ints(&[stride; 2])),
            ("pads", ints(&[pad; 4])),
            ("ceil_mode", Attribute::Int(ceil.into())),
        ];
        self.node("MaxPool", name, vec![x.name.clone()], &attributes, x.channels)
    }

    /// Mean of windows that do not overlap.
    pub(super) fn average_pool(&mut self, name: &str, x: &Value, kernel: usize) -> Value {
        let attributes = [("kernel_shape", ints(&[kernel; 2])), ("strides", ints(&[kernel; 2]))];
        self.node("AveragePool", name, vec![x.name.clone()], &attributes, x.channels)
    }

    /// Mean over height and width.
    pub(super) fn global_average_pool(&mut self, name: &str, x: &Value) -> Value {
        self.node("GlobalAveragePool", name, vec![x.name.clone()], &[], x.channels)
    }

    /// All values of an image of this height and width in one row.
    pub(super) fn flatten(&mut self, name: &str, x: &Value, size: usize) -> Value {
        self.node("Flatten", name, vec![x.name.clone()], &[("axis", Attribute::Int(1))], x.channels * size * size)
    }

    /// A dense layer with the tensors `name.weight` and `name.bias`; as many outputs as its bias has values.
    pub(super) fn dense(&mut self, name: &str, x: &Value) -> Option<Value> {
        let &[outputs] = self.shape(&format!("{name}.bias"))? else { return None };
        let weight = self.take(&format!("{name}.weight"), &[outputs, x.channels])?;
        let bias = self.take(&format!("{name}.bias"), &[outputs])?;
        Some(self.node("Gemm", name, vec![x.name.clone(), weight, bias], &[("transB", Attribute::Int(1))], outputs))
    }

    /// Every second row and column, and `extra` channels of zeros on both sides: the shortcut without parameters (option A of He et
    /// al. 2016).
    pub(super) fn subsample_and_pad(&mut self, name: &str, x: &Value, extra: usize) -> Value {
        let mut vector = |part: &str, values: &[i64]| {
            let values = values.to_vec();
            self.constant(format!("shortcut.{part}"), vec![values.len()], Values::Int(values))
        };
        let slice = [("starts", [0, 0]), ("ends", [i64::MAX; 2]), ("axes", [2, 3]), ("steps", [2, 2])].map(|(part, v)| vector(part, &v));
        let side = extra as i64;
        let pads = vector(&format!("pads{extra}"), &[0, side, 0, 0, 0, side, 0, 0]);
        let inputs = std::iter::once(x.name.clone()).chain(slice).collect();
        let sliced = self.node("Slice", &format!("{name}.slice"), inputs, &[], x.channels);
        let mode = [("mode", Attribute::Text("constant".into()))];
        self.node("Pad", name, vec![sliced.name, pads], &mode, x.channels + 2 * extra)
    }
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}
