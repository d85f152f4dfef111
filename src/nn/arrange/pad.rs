//! Elements added at the ends of axes, or taken away.

use super::{
    super::{Needs, Operator, Tape, Tensor, Value},
    add, bounded, cotangent, only, take,
    view::{strides, sum},
};

/// What Pad fills with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// A value.
    Constant(f32),
    /// The elements mirrored at the edge, which is not repeated.
    Reflect,
    /// The element at the edge.
    Edge,
}

/// Pad; negative numbers cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// Elements added before and after, on every axis.
    pub pads: Vec<(isize, isize)>,
    /// What they are.
    pub fill: Fill,
}

/// What becomes of one axis: `skip` elements are dropped, `keep` kept, and `before` and `after` added around those.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Margin {
    skip: usize,
    keep: usize,
    before: usize,
    after: usize,
}

impl Margin {
    /// Of an axis of length `len`; `None` when more is cut than there is.
    fn new(len: usize, (before, after): (isize, isize)) -> Option<Margin> {
        let cut = |pad: isize| pad.min(0).unsigned_abs();
        let keep = len.checked_sub(cut(before))?.checked_sub(cut(after))?;
        Some(Margin { skip: cut(before), keep, before: before.max(0) as usize, after: after.max(0) as usize })
    }

    fn len(&self) -> usize {
        self.before + self.keep + self.after
    }

    /// Which element of the input stands at `i` of the result.
    fn source(&self, i: usize, fill: Fill) -> Option<usize> {
        let last = self.keep.wrapping_sub(1);
        let kept = match (i.checked_sub(self.before), fill) {
            (Some(i), _) if i < self.keep => Some(i),
            (_, Fill::Constant(_)) => None,
            (None, Fill::Edge) => Some(0),
            (None, Fill::Reflect) => Some(self.before - i),
            (Some(_), Fill::Edge) => Some(last),
            (Some(i), Fill::Reflect) => Some(2 * last - i),
        };
        kept.map(|i| i + self.skip)
    }
}

impl Pad {
    /// Margins of all axes, with strides in the input; the last axes that stay as they are count as one.
    fn margins(&self, shape: &[usize]) -> Vec<(Margin, usize)> {
        let margin = |(&len, &pads): (&usize, &(isize, isize))| Margin::new(len, pads).expect("checked by shapes");
        let mut margins: Vec<(Margin, usize)> = shape.iter().zip(&self.pads).map(margin).zip(strides(shape)).collect();
        while let [.., (a, stride_a), (b, stride_b)] = &mut margins[..] {
            if [a.skip, a.before, a.after, b.skip, b.before, b.after] != [0; 6] || *stride_a != b.keep * *stride_b {
                break;
            }
            a.keep *= b.keep;
            *stride_a = *stride_b;
            margins.pop();
        }
        margins
    }

    /// Visits the rows of the result (its last axis) in order, with where in the input each begins, if there.
    fn rows(&self, margins: &[(Margin, usize)], at: Option<usize>, f: &mut impl FnMut(Option<usize>)) {
        match margins {
            [] | [_] => f(at),
            [(margin, stride), rest @ ..] => {
                for i in 0..margin.len() {
                    let at = at.zip(margin.source(i, self.fill)).map(|(at, i)| at + i * stride);
                    self.rows(rest, at, f);
                }
            }
        }
    }
}

impl Operator for Pad {
    fn name(&self) -> &'static str {
        "Pad"
    }
    fn shapes(&self, inputs: &[&[usize]]) -> Result<Vec<Vec<usize>>, String> {
        let shape = only(inputs)?;
        if self.pads.len() != shape.len() {
            return Err(format!("it pads {} axes, but its input has {}", self.pads.len(), shape.len()));
        }
        let mut result = Vec::with_capacity(shape.len());
        for (axis, (&len, &pads)) in shape.iter().zip(&self.pads).enumerate() {
            let margin = Margin::new(len, pads).ok_or_else(|| format!("it cuts more than the {len} elements of axis {axis}"))?;
            let (keep, most) = (margin.keep, margin.before.max(margin.after));
            match self.fill {
                Fill::Reflect if most > 0 && most >= keep => {
                    return Err(format!(
                        "it adds {most} mirrored elements to the {keep} of axis {axis}; at most {} can be",
                        keep.max(1) - 1
                    ));
                }
                Fill::Edge if most > 0 && keep == 0 => return Err(format!("axis {axis} has no edge to repeat, as it is empty")),
                _ => {}
            }
            let sum = margin.before.checked_add(keep).and_then(|sum| sum.checked_add(margin.after));
            result.push(sum.ok_or_else(|| format!("it makes axis {axis} too long"))?);
        }
        Ok(vec![bounded(result)?])
    }
    fn forward(&self, inputs: Vec<Value<'_>>, _aux: Option<&mut Vec<u32>>) -> Vec<Tensor> {
        let x = take(inputs);
        if self.pads.iter().all(|&pads| pads == (0, 0)) {
            return vec![x.into_owned()];
        }
        let grown = |(&len, &(before, after)): (&usize, &(isize, isize))| len.wrapping_add_signed(before).wrapping_add_signed(after);
        let shape: Vec<usize> = x.shape.iter().zip(&self.pads).map(grown).collect();
        let len = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let value = if let Fill::Constant(value) = self.fill { value } else { 0.0 };
        if len == 0 || x.is_empty() {
            return vec![Tensor::new(shape, vec![value; len])];
        }
        let margins = self.margins(&x.shape);
        let row = margins[margins.len() - 1].0;
        let mut out = Vec::with_capacity(len);
        self.rows(&margins, Some(0), &mut |at| {
            let Some(at) = at else { return out.resize(out.len() + row.len(), value) };
            let kept = &x.data[at + row.skip..][..row.keep];
            match self.fill {
                Fill::Constant(_) => out.resize(out.len() + row.before, value),
                Fill::Edge if row.before > 0 => out.resize(out.len() + row.before, kept[0]),
                Fill::Reflect if row.before > 0 => out.extend(kept[1..=row.before].iter().rev()),
                _ => {}
            }
            out.extend_from_slice(kept);
            match self.fill {
                Fill::Constant(_) => out.resize(out.len() + row.after, value),
                Fill::Edge if row.after > 0 => out.resize(out.len() + row.after, kept[row.keep - 1]),
                Fill::Reflect if row.after > 0 => out.extend(kept[row.keep - 1 - row.after..row.keep - 1].iter().rev()),
                _ => {}
            }
        });
        vec![Tensor::new(shape, out)]
    }
    fn needs(&self, _wanted: &[bool]) -> Needs {
        Needs::default()
    }
    fn vjp(&self, tape: &Tape<'_>, cotangents: Vec<Option<Tensor>>, wanted: &[bool]) -> Vec<Option<Tensor>> {
        let Some(g) = cotangent(cotangents, wanted) else { return vec![None] };
        if self.pads.iter().all(|&pads| pads == (0, 0)) {
            return vec![Some(g)];
        }
        let mut dx = Tensor::zeros(tape.input_shapes[0]);
        if g.is_empty() || dx.is_empty() {
            return vec![Some(dx)];
        }
        let margins = self.margins(&dx.shape);
        let row = margins[margins.len() - 1].0;
        let mut rows = g.data.chunks_exact(row.len());
        self.rows(&margins, Some(0), &mut |at| {
            let (Some(g), Some(at)) = (rows.next(), at) else { return };
            let kept = &mut dx.data[at + row.skip..][..row.keep];
            let (before, rest) = g.split_at(row.before);
            let (middle, after) = rest.split_at(row.keep);
            add(kept, middle);
            match self.fill {
                Fill::Edge if row.keep > 0 => {
                    kept[0] += sum(before);
                    kept[row.keep - 1] += sum(after);
                }
                Fill::Reflect if row.keep > 0 => {
                    kept[1..].iter_mut().zip(before.iter().rev()).for_each(|(k, g)| *k += g);
                    kept[..row.keep - 1].iter_mut().rev().zip(after).for_each(|(k, g)| *k += g);
                }
                _ => {}
            }
        });
        vec![Some(dx)]
    }
}
