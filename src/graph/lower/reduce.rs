//! Reductions over axes.

use super::{Clause, Context, Operand, Rule, axes, node::Call};
use crate::nn::{
    arrange::{Reshape, Transpose},
    reduce::{Reduce, Reduction},
};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceMax", |context, call| reduce(context, call, Some(Reduction::Max), |a, b| Some(a.max(b)))),
    ("ReduceMean", |context, call| reduce(context, call, Some(Reduction::Mean), i64::checked_add)),
    ("ReduceMin", |context, call| reduce(context, call, Some(Reduction::Min), |a, b| Some(a.min(b)))),
    ("ReduceProd", |context, call| reduce(context, call, None, i64::checked_mul)),
    ("ReduceSum", |context, call| reduce(context, call, Some(Reduction::Sum), i64::checked_add)),
];

/// A reduction; `fold` is what it does to integers. A product of floats is computed only where they are known.
fn reduce(context: &mut Context, call: &Call, reduction: Option<Reduction>, fold: fn(i64, i64) -> Option<i64>) -> Clause<Vec<Operand>> {
    let x = call.input(0)?;
    let shape = context.shape(x);
    let keep = call.int_or("keepdims", 1)? != 0;
    let list = call.list(context, "axes", 1)?.unwrap_or_default();
    if list.is_empty() && call.flag("noop_with_empty_axes")? {
        return Ok(vec![x.clone()]);
    }
    let mut along = axes(&list, shape.len())?;
    if list.is_empty() {
        along = (0..shape.len()).collect();
    }
    along.sort_unstable();
    if let (Operand::Value(id), Some(reduction)) = (x, reduction) {
        return context.push(call, Reduce { reduction, axes: along, keep }, &[*id]);
    }

    // The reduced axes last, so that what is reduced lies together.
    let order: Vec<usize> = (0..shape.len()).filter(|a| !along.contains(a)).chain(along.iter().copied()).collect();
    let length: usize = along.iter().map(|&a| shape[a]).product();
    let outer: usize = (0..shape.len()).filter(|a| !along.contains(a)).map(|a| shape[a]).product();
    let lengths = shape.iter().enumerate().filter(|(a, _)| keep || !along.contains(a));
    let result: Vec<usize> = lengths.map(|(a, &n)| if along.contains(&a) { 1 } else { n }).collect();
    let turned = context.rearrange(call, Transpose { axes: order }, std::slice::from_ref(x), 0)?;
    let turned = context.rearrange(call, Reshape { shape: vec![outer, length] }, &turned, 0)?;
    let rows = |i: usize| i * length..(i + 1) * length;
    match (&turned[0], reduction) {
        (Operand::Known(integers), _) => {
            if length == 0 && !matches!(reduction, None | Some(Reduction::Sum)) {
                return Err("it reduces nothing to a value".into());
            }
            let sum = |row: &[i64]| {
                let empty = i64::from(reduction.is_none());
                let first = row.first().copied().unwrap_or(empty);
                let all = row.iter().skip(1).try_fold(first, |a, &b| fold(a, b)).ok_or("its integers overflow")?;
                Ok(if reduction == Some(Reduction::Mean) { all / length as i64 } else { all })
            };
            let values: Clause<Vec<i64>> = (0..outer).map(|i| sum(&integers.values[rows(i)])).collect();
            Ok(vec![context.integers(result, |_| values)?])
        }
        (Operand::Value(id), _) => {
            let Some(tensor) = context.builder.known(*id).cloned() else { return Err(call.computed(0, "what it multiplies")) };
            let values = (0..outer).map(|i| tensor.data[rows(i)].iter().product()).collect();
            Ok(vec![context.floats(result, values)])
        }
    }
}
