//! Matrix products.

use super::{Clause, Context, Operand, Rule, node::Call};
use crate::nn::dense::{Gemm, MatMul};

pub(super) const RULES: &[(&str, Rule)] = &[("Gemm", gemm), ("MatMul", matmul)];

fn gemm(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let operator = Gemm {
        alpha: call.float_or("alpha", 1.0)?,
        beta: call.float_or("beta", 1.0)?,
        trans_a: call.flag("transA")?,
        trans_b: call.flag("transB")?,
    };
    let inputs = call.values(context, 2, 3)?;
    context.push(call, operator, &inputs)
}

fn matmul(context: &mut Context, call: &Call) -> Clause<Vec<Operand>> {
    let inputs = call.values(context, 2, 2)?;
    context.push(call, MatMul, &inputs)
}
