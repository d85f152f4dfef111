//! Blocks of pixels as channels, and back.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    bounded, cotangent, only, take,
    view::{inverse, permute},
};

/// Axes of a batch of images, or why it is none.
fn images(shape: &[usize], block: usize) -> Result<[usize; 4], String> {
    match *shape {
        _ if block == 0 => Err("its blocks have size 0".into()),
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => Err(format!("its input has {} axes, not 4", shape.len())),
    }
}

/// A shape with height and width taken apart, the order of those axes in the result, and the result's shape.
type Plan = ([usize; 6], [usize; 6], Vec<usize>);

/// Pixels in their places in the result.
fn moved(x: Value<'_>, (apart, axes, result): Plan) -> Tensor {
    permute(x, &apart, &axes, result)
}

/// A cotangent of the result as that of an input of this shape.
fn moved_back(cotangent: Tensor, (apart, axes, _): Plan, shape: &[usize]) -> Tensor {
    permute(Value::Owned(cotangent), &axes.map(|a| apart[a]), &inverse(&axes), shape.to_vec())
}

/// DepthToSpace.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthToSpace {
    /// Side of the blocks.
    pub block: usize,
    /// Mode CRD (channels outermost), not DCR.
    pub crd: bool,
}

impl DepthToSpace {
    /// The input's shape, channels taken apart, the order of those axes in the result, and the result's shape.
    fn plan(&self, shape: &[usize]) -> Plan {
        let (b, [n, c, h, w]) = (self.block, [shape[0], shape[1], shape[2], shape[3]]);
        let depth = c / (b * b);
        let result = vec![n, depth, h * b, w * b];
        if self.crd { ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3], result) } else { ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2], result) }
    }
}

impl Operator for DepthToSpace {
    fn name(&self) -> &'static str {
        "DepthToSpace"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let [n, c, h, w] = images(only(inputs)?, self.block)?;
        let b = self.block;
        let Some(area) = b.checked_mul(b).filter(|area| c.is_multiple_of(*area)) else {
            return Err(format!("its {c} channels are no multiple of blocks of {b}×{b}"));
        };
        let (h, w) = h.checked_mul(b).zip(w.checked_mul(b)).ok_or("its result is too large")?;
        Ok(vec![bounded(vec![n, c / area, h, w])?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let plan = self.plan(&x.shape);
        vec![moved(x, plan)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let shape = tape.input_shapes[0];
        vec![cotangent(cotangents, wanted).map(|g| moved_back(g, self.plan(shape), shape))]
    }
}

/// SpaceToDepth.
#[derive(Debug, Clone, PartialEq)]
pub struct SpaceToDepth {
    /// Side of the blocks.
    pub block: usize,
}

impl SpaceToDepth {
    /// The input's shape, height and width taken apart, the order of those axes in the result, and the result's shape.
    fn plan(&self, shape: &[usize]) -> Plan {
        let (b, [n, c, h, w]) = (self.block, [shape[0], shape[1], shape[2] / self.block, shape[3] / self.block]);
        ([n, c, h, b, w, b], [0, 3, 5, 1, 2, 4], vec![n, c * b * b, h, w])
    }
}

impl Operator for SpaceToDepth {
    fn name(&self) -> &'static str {
        "SpaceToDepth"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let [n, c, h, w] = images(only(inputs)?, self.block)?;
        let b = self.block;
        if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
            return Err(format!("its {h}×{w} elements are no multiple of blocks of {b}×{b}"));
        }
        let c = b.checked_mul(b).and_then(|area| area.checked_mul(c)).ok_or("its result is too large")?;
        Ok(vec![bounded(vec![n, c, h / b, w / b])?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        let plan = self.plan(&x.shape);
        vec![moved(x, plan)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let shape = tape.input_shapes[0];
        vec![cotangent(cotangents, wanted).map(|g| moved_back(g, self.plan(shape), shape))]
    }
}
