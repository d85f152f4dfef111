//! The way back: what a `.tq` says of itself, its tensors decoded, and the original's format written again.

use std::io::Write;

use super::{
    code_cost, folds_note,
    job::{Item, Job},
};
use crate::{
    container::{self, TqFile, layer},
    error::{Result, bad},
    io::{self, Role, TensorReader, skeleton},
    report::{AllocationReport, LayerRow, LayerSummary, Measure, ModelSummary},
};

/// A tensor's bytes, or why there are none.
type DecodeTask = Box<dyn FnOnce() -> Result<Vec<u8>> + Send>;

/// The task that decodes one tensor of a `.tq`.
fn decode_task(tq: &TqFile, index: usize) -> Result<DecodeTask> {
    let (body, info, file) = (tq.body(index)?, tq.tensors[index].clone(), tq.name().to_string());
    Ok(Box::new(move || container::decode(body, &info).map_err(|reason| bad(file, reason, crate::error::FETCH_AGAIN).tensor(&info.name))))
}

/// What is decoded of a `.tq`, and about how long each tensor takes.
fn decode_items<'a>(tq: &'a TqFile, tensors: impl Iterator<Item = usize> + 'a) -> Vec<Item> {
    let cost = |t: &io::TensorInfo| if let Role::Layer(shape) = t.role { code_cost(&shape) } else { t.elements() as f64 };
    tensors.map(|i| &tq.tensors[i]).map(|t| Item { name: t.name.clone(), cost: cost(t) }).collect()
}

/// The job that decodes every tensor of a `.tq` to its bytes.
pub fn decode_job(tq: &TqFile) -> Job<'_, Vec<u8>> {
    Job { stage: "decoding", items: decode_items(tq, 0..tq.tensors.len()), prepare: Box::new(move |i| decode_task(tq, i)) }
}

/// The job that decodes some tensors of a `.tq` to their bytes: no other layer is read. Each has its own result.
pub fn recover_job(tq: &TqFile, tensors: Vec<usize>) -> Job<'_, Result<Vec<u8>>> {
    Job {
        stage: "decoding",
        items: decode_items(tq, tensors.iter().copied()),
        prepare: Box::new(move |i| {
            let task = decode_task(tq, tensors[i]);
            Ok(Box::new(move || Ok(task.and_then(|task| task()))))
        }),
    }
}

/// Writes the original's format again from a `.tq` and its decoded tensors.
pub fn rebuild(tq: &TqFile, tensors: Vec<Vec<u8>>, out: &mut dyn Write) -> Result<()> {
    struct Decoded(Vec<Vec<u8>>);
    impl TensorReader for Decoded {
        fn read(&self, index: usize) -> Result<Vec<u8>> {
            Ok(self.0[index].clone())
        }
    }
    skeleton::write(&tq.skeleton, &Decoded(tensors), out)
}

/// What a `.tq` says of itself: the original's table, and the allocation in the file.
pub fn describe(tq: &TqFile) -> Result<(ModelSummary, AllocationReport)> {
    let mut notes = vec![format!("{} holds {}, compressed.", tq.name(), tq.original_name)];
    notes.extend(folds_note((0..tq.tensors.len()).filter(|&i| tq.is_folded(i)).count()));
    let summary = io::tensor::summary(&tq.original_name, tq.format, tq.original_bytes, &tq.tensors, notes);
    let mut rows = Vec::new();
    let (mut bytes, mut weights) = (0u64, 0u64);
    let layers = tq.tensors.iter().enumerate().filter(|(_, t)| matches!(t.role, Role::Layer(_)));
    for ((tensor, _), LayerSummary { index, name, shape, weights: count }) in layers.zip(&summary.layers) {
        let read = tq.layer(tensor)?;
        let mut row = LayerRow {
            index: *index,
            name: name.clone(),
            shape: shape.clone(),
            weights: *count,
            transform: None,
            feedback: false,
            bits: 8.0 * tq.tensors[tensor].dtype.size() as f64,
            bytes: container::section_bytes(tq.tensors[tensor].bytes() as u64),
            basis_bytes: 0,
            error: f64::NAN,
            gap: None,
            locked: None,
            excluded: read.is_none(),
            depths: Vec::new(),
        };
        if let Some((layer::Read { code, coding, basis_bytes, .. }, section)) = read {
            (row.transform, row.feedback) = (Some(code.kind), code.columns.is_some());
            row.bytes = section;
            row.bits = 8.0 * section as f64 / (*count).max(1) as f64;
            row.basis_bytes = basis_bytes;
            if coding == layer::Coding::Fixed {
                row.depths = code.blocks.iter().map(|b| b.depth).collect();
            }
            bytes += section;
            weights += count;
        }
        rows.push(row);
    }
    let rate = 8.0 * bytes as f64 / weights.max(1) as f64;
    let report = AllocationReport {
        rate,
        bytes: tq.file_bytes(),
        ratio: tq.original_bytes as f64 / tq.file_bytes().max(1) as f64,
        measure: Measure::Weights,
        db: f64::NAN,
        gap: None,
        lambda: f64::NAN,
        measured: false,
        other_bytes: tq.file_bytes() - rows.iter().map(|r| r.bytes).sum::<u64>(),
        not_reachable: None,
        rate_range: (rate, rate),
        layers: rows,
    };
    Ok((summary, report))
}
