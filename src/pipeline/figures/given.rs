//! What a layer was given.

use super::super::Session;
use crate::{
    error::Result,
    quantize::Step,
    rate::{Plan, curve::Candidate, hull::Vertex},
    report::{AllocationSettings, TransformKind},
};

/// How a layer is coded.
#[derive(Clone)]
pub(super) struct Given {
    /// The transform, and all the quantizers that there are.
    pub candidate: Candidate,
    /// Those that each block takes.
    pub blocks: Vec<Vertex>,
}

impl Given {
    /// Depth and step of a block, if it is stored.
    pub fn quantizer_code(&self, block: usize) -> Option<(u8, Step)> {
        let taken = usize::from(self.blocks.get(block)?.taken.coefficient);
        let choice = self.candidate.blocks[block].coefficients[taken];
        (choice.depth > 0).then_some((choice.depth, choice.step))
    }

    /// The same with the step's size, of normalised weights.
    pub fn quantizer(&self, block: usize) -> Option<(u8, f32)> {
        self.quantizer_code(block).map(|(depth, step)| (depth, step.size()))
    }

    /// The first block that is stored, blocks coming strongest first, and its quantizer.
    pub fn strongest(&self) -> Option<(usize, (u8, f32))> {
        (0..self.blocks.len()).find_map(|block| Some((block, self.quantizer(block)?)))
    }
}

impl Session {
    /// What a layer is given by the allocation of these settings; nothing where it is kept bit for bit.
    pub(super) fn given(&self, layer: usize, settings: &AllocationSettings) -> Result<Option<Given>> {
        let (mut allocation, _) = self.allocate(settings)?;
        Ok(match allocation.plans.swap_remove(layer) {
            Plan::Exact => None,
            Plan::Quantized { candidate, blocks } => Some(Given { candidate: self.curves[layer].candidates[candidate].clone(), blocks }),
        })
    }

    /// A layer without a transform, of which nothing is stored.
    pub(super) fn untransformed(&self, layer: usize) -> Given {
        let candidates = &self.curves[layer].candidates;
        let none = candidates.iter().find(|c| c.kind == TransformKind::None && c.feedback.is_none());
        let candidate = none.unwrap_or(&candidates[0]).clone();
        let blocks = candidate.blocks.iter().map(|b| b.at(f64::INFINITY)).collect();
        Given { candidate, blocks }
    }
}
