//! ONNX: a `ModelProto` in Protocol Buffers, which has no magic number.
//!
//! Four passes: [`walk`] records where tensors and nodes stand, [`roles`] decides from the graph what each tensor is for,
//! [`rebuild`] cuts the tensor data out of the file, and [`graph`] reads the network, so that it can be run. All but the tensor
//! data stays verbatim, and enclosing lengths are rewritten only where data moved: from external files and from typed fields
//! into `raw_data`.
//!
//! Tensors inside of subgraphs (If, Loop, Scan), functions and attributes are never layers; they pass through untouched.

mod graph;
mod rebuild;
mod roles;
mod walk;
mod wire;

use std::ops::Range;
use std::rc::Rc;

use wire::FieldValue;

use super::source::{Cached, read_vec};
use super::table::Table;
use super::{Dtype, Format, Model, Role, Source, TensorInfo};
use crate::error::{FETCH_AGAIN, Result, bad};
use walk::{DOUBLE_DATA, FLOAT_DATA, INT32_DATA};

/// Whether this is a `ModelProto`: known fields of the right type, among them a graph.
pub(crate) fn recognise(source: &Rc<dyn Source>) -> bool {
    let cached = Cached::new(source.clone());
    let (mut graph, mut version) = (false, false);
    let known = wire::fields(&cached, 0..cached.len(), &mut |field| {
        graph |= field.is(walk::GRAPH);
        version |= field.number == 1 && matches!(field.value, FieldValue::Varint(1..=1000));
        if field.number > 100 { Err(bad("", "", "")) } else { Ok(()) }
    });
    // A cut file fails inside of the graph, whose length then exceeds the file: it still starts with a plausible version,
    // followed by a known field.
    known.is_ok() && graph || version && starts_like_a_model(&cached)
}

fn starts_like_a_model(source: &dyn Source) -> bool {
    let mut head = [0; 4];
    // ir_version, then producer_name, producer_version, domain, doc_string or graph.
    source.read_at(0, &mut head).is_ok() && head[0] == 0x08 && head[1] < 0x80 && matches!(head[2], 0x12 | 0x1a | 0x22 | 0x32 | 0x3a)
}

/// Reads the structure of the model. `others` are files dropped with it; the second result tells which of them are its
/// external data.
pub(crate) fn open(source: Rc<dyn Source>, others: &[Rc<dyn Source>]) -> Result<(Model, Vec<bool>)> {
    let cached: Rc<dyn Source> = Rc::new(Cached::new(source.clone()));
    let found = walk::walk(&*cached)?;
    let roles = roles::assign(source.name(), &found)?;
    let mut table = Table::new(source.name());
    let mut used = vec![false; others.len()];
    let (skeleton, placed) = rebuild::skeleton(&cached, &found, &roles, others, &mut used, &mut table)?;

    let mut notes = Vec::new();
    let graph = match graph::read(&*cached, &found, &placed, &table) {
        Ok(graph) => Some(Rc::new(graph)),
        Err(e) => {
            notes.push(format!("The model can be compressed but not run: {e}"));
            None
        }
    };
    let exact: Vec<&TensorInfo> =
        table.infos.iter().filter(|t| t.role == Role::Exact && t.dtype.is_float() && t.shape.len() > 1 && t.elements() >= 1024).collect();
    if let Some(first) = exact.first() {
        let weights: usize = exact.iter().map(|t| t.elements()).sum();
        notes.push(format!(
            "{} tensors with {weights} values, such as `{}`, are not the weights of Conv, ConvTranspose, Gemm or MatMul and are kept as they are.",
            exact.len(),
            first.name
        ));
    }
    let external: u64 = others.iter().zip(&used).filter(|(_, used)| **used).map(|(other, _)| other.len()).sum();
    if source.len() + external > i32::MAX as u64 {
        notes.push("The model with its external data exceeds 2 GB: as one ONNX file other programs will not read it.".into());
    }
    let model = Model {
        name: source.name().into(),
        format: Format::Onnx,
        file_bytes: source.len() + external,
        tensors: table.infos.clone(),
        skeleton,
        reader: Rc::new(table),
        notes,
        graph,
    };
    Ok((model, used))
}

/// The values in the typed fields of the `TensorProto` that fills `message`, as little-endian bytes.
pub(crate) fn read_typed(source: &dyn Source, message: Range<u64>, info: &TensorInfo) -> Result<Vec<u8>> {
    let expected = info.bytes();
    let mut out: Vec<u8> = Vec::new();
    let wrong = |n: usize| bad(source.name(), format!("it holds {n} values instead of {}", info.elements()), FETCH_AGAIN);
    wire::fields(source, message, &mut |field| {
        match (info.dtype, field.number, field.value) {
            (Dtype::F32, FLOAT_DATA, FieldValue::I32(v)) => out.extend(v.to_le_bytes()),
            (Dtype::F64, DOUBLE_DATA, FieldValue::I64(v)) => out.extend(v.to_le_bytes()),
            (Dtype::F32, FLOAT_DATA, FieldValue::Len(len)) | (Dtype::F64, DOUBLE_DATA, FieldValue::Len(len)) => {
                if len > expected as u64 {
                    return Err(wrong(len as usize / info.dtype.size()));
                }
                out.extend(read_vec(source, field.content.start, len)?);
            }
            // 16-bit floats hide in the low half of 32-bit integers.
            (Dtype::F16 | Dtype::Bf16, INT32_DATA, FieldValue::Varint(v)) => out.extend((v as u16).to_le_bytes()),
            (Dtype::F16 | Dtype::Bf16, INT32_DATA, FieldValue::Len(len)) => {
                let bytes = read_vec(source, field.content.start, len)?;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let value = wire::packed(&mut rest).ok_or_else(|| bad(source.name(), "an integer in it is damaged", FETCH_AGAIN))?;
                    out.extend((value as u16).to_le_bytes());
                }
            }
            _ => {}
        }
        if out.len() > expected { Err(wrong(out.len() / info.dtype.size())) } else { Ok(()) }
    })?;
    if out.len() == expected { Ok(out) } else { Err(wrong(out.len() / info.dtype.size())) }
}
