//! Pictures for the page: made by the pipeline, their pixels as the page's canvas takes them.

use js_sys::{Array, Uint8Array};

use super::{Part, run_part};
use crate::{
    error::Result,
    graph::Runnable,
    pipeline::{evaluate::Evaluator, pictures::Pixels},
    report::{Evaluation, pictures::Shown},
};

/// A few pictures of both networks, and their pixels; none where `compressed`, what the compressed network gave, are no pictures.
pub async fn made(job: u32, part: Part, evaluator: &Evaluator, network: &Runnable, compressed: &Evaluation) -> Result<(Vec<Shown>, Array)> {
    let pixels = Array::new();
    let Some(score) = compressed.pictures else { return Ok((Vec::new(), pixels)) };
    let drawn = run_part(job, part, evaluator.pictures_job(network)?).await?;
    let of = |p: Option<&Pixels>| pixels.push(&Uint8Array::new_from_slice(p.map_or(&[], |p| &p.rgba)));
    let shown = evaluator.pictures(&drawn, score.range).into_iter().map(|picture| {
        of(picture.input.as_ref());
        of(Some(&picture.full));
        of(Some(&picture.compressed));
        picture.shown
    });
    Ok((shown.collect(), pixels.clone()))
}
