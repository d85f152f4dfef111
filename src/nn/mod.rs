//! Running a network and differentiating it: `f32`, batch first, channels second.
//!
//! An [`Operator`] is one operation with all its attributes; each family has its file, with the forward computation and the
//! vector–Jacobian product side by side:
//!
//! | file | operators |
//! | --- | --- |
//! | [`conv`] | Conv, ConvTranspose; their shapes in [`window`] |
//! | [`dense`] | Gemm, MatMul |
//! | [`unary`] | Relu, Clip, Sigmoid, … one input, elementwise; PRelu |
//! | [`binary`] | Add, Sub, Mul, Div, Pow, with broadcasting |
//! | [`norm`] | BatchNormalization, LayerNormalization, InstanceNormalization, LRN |
//! | [`softmax`] | Softmax, LogSoftmax |
//! | [`pool`] | MaxPool, AveragePool |
//! | [`reduce`] | ReduceMean, ReduceSum, ReduceMax; global pooling |
//! | [`arrange`] | Reshape, Transpose, Concat, Split, Slice, Pad, Expand, Gather, DepthToSpace, SpaceToDepth |
//! | [`resize`] | Resize, Upsample |
//!
//! [`network`] strings them together; [`kernel`] is the matrix product they rest on.

pub mod arrange;
pub mod binary;
#[cfg(test)]
pub mod check;
pub mod conv;
pub mod dense;
pub mod kernel;
pub mod network;
pub mod norm;
pub mod pool;
pub mod reduce;
pub mod resize;
pub mod softmax;
pub mod tensor;
pub mod unary;
pub mod window;

use std::{borrow::Cow, fmt};

pub use network::{Before, Builder, Hooks, Network, NoHooks, Walk};
pub use tensor::Tensor;

/// An input of an operator: borrowed, or owned when nothing reads it later, so that it can be overwritten.
pub type Value<'a> = Cow<'a, Tensor>;

/// One operation with its attributes. All tensors, weights too, are inputs; how many there may be is the operator's to say in
/// [`Operator::shapes`], which is called once, before anything else, with the very shapes that `forward` will get. After that,
/// `forward` and `vjp` do not fail.
///
/// Sums run in an order that depends on shapes only, never on threads: the same inputs give the same bits.
pub trait Operator: fmt::Debug + Send + Sync {
    /// Its name in ONNX, for messages.
    fn name(&self) -> &'static str;

    /// Shapes of the outputs for these shapes of inputs.
    ///
    /// # Errors
    /// A clause that says why inputs of these shapes are impossible: `its 3 channels are no multiple of 2 groups`.
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String>;

    /// The outputs. `aux`, when a reverse pass follows, may take what [`Operator::vjp`] needs beside inputs and outputs (where the
    /// maxima of a pooling were).
    fn forward(&self, inputs: Vec<Value<'_>>, aux: Option<&mut Vec<u32>>) -> Vec<Tensor>;

    /// What [`Operator::vjp`] reads, when it is asked for derivatives by the `wanted` inputs; all else is freed or overwritten.
    fn needs(&self, wanted: &[bool]) -> Needs;

    /// Vector–Jacobian product: for cotangents `∂L/∂output`, the cotangents `∂L/∂input` of `wanted` inputs (`None` for the others, and
    /// for inputs that have no derivative). A cotangent that is `None` is zero; at least one is not. Cotangents are given away: reuse them.
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>>;

    /// Of a convolution of one group: what some pixels of its output see of its input, for these shapes of inputs. A row for each of the weights of an output
    /// channel, in their order, a column for each pixel; these count through all images. Of other operators nothing.
    fn seen(&self, _shapes: &[&[usize]], _x: &Tensor, _pixels: &[usize]) -> Option<Vec<f32>> {
        None
    }

    /// Multiplications of the forward computation, for convolutions and matrix products; 0 for the rest, which is small beside them.
    fn multiplications(&self, _inputs: &[&[usize]], _outputs: &[&[usize]]) -> u64 {
        0
    }
}

/// What a reverse pass reads of the forward pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needs {
    /// Inputs, by position; a shorter list means no more.
    pub inputs: Vec<bool>,
    /// Outputs, by position.
    pub outputs: Vec<bool>,
}

/// What is left of the forward pass of one operator.
#[derive(Debug)]
pub struct Tape<'a> {
    /// Inputs; those it [`Operator::needs`] are there.
    pub inputs: &'a [Option<&'a Tensor>],
    /// Outputs; those it [`Operator::needs`] are there.
    pub outputs: &'a [Option<&'a Tensor>],
    /// Shapes of all inputs.
    pub input_shapes: &'a [&'a [usize]],
    /// Shapes of all outputs.
    pub output_shapes: &'a [&'a [usize]],
    /// What `forward` put aside.
    pub aux: &'a [u32],
}

impl Tape<'_> {
    /// An input that was needed.
    pub fn input(&self, i: usize) -> &Tensor {
        self.inputs[i].expect("an input that the operator needs is kept")
    }
    /// An output that was needed.
    pub fn output(&self, i: usize) -> &Tensor {
        self.outputs[i].expect("an output that the operator needs is kept")
    }
}
