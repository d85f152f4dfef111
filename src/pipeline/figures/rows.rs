//! Rows of coefficients that are left (Young et al. 2021, Fig. 7): a row whose indices are all zero need not be computed with, and its basis vector is not stored.

use super::{
    super::{Session, code_cost, job::Item, job::Job, job::Task},
    Making, Piece, bars, counted,
};
use crate::{
    container::layer,
    error::{Result, bad},
    io::LayerShape,
    rate::Plan,
    report::{
        AllocationSettings, TransformKind,
        figure::{Axis, Chart, Content, Figure, Panel, Which},
    },
};

/// Rows of coefficients of an encoded layer, over all its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCount {
    /// Its transform.
    pub kind: TransformKind,
    /// Rows.
    pub all: usize,
    /// Rows with an index that is not zero.
    pub left: usize,
}

/// Counts the rows of a layer's section. The error is a clause.
fn count(body: &[u8], shape: &LayerShape) -> std::result::Result<RowCount, String> {
    let layer::Read { code, indices, .. } = layer::read(body, shape)?;
    let all = code.geometry.rows();
    let rows = indices.coefficients.chunks(code.geometry.width.max(1));
    Ok(RowCount { kind: code.kind, all, left: rows.filter(|row| row.iter().any(|&index| index != 0)).count() })
}

impl Session {
    /// The job that encodes all layers by their plans, and counts their rows.
    pub(super) fn rows_job(&self, plans: Vec<Plan>) -> Job<'_, Option<RowCount>> {
        let items = self.layers.iter().map(|&(t, shape)| Item { name: self.model.tensors[t].name.clone(), cost: code_cost(&shape) });
        let prepare = move |i: usize| -> Result<Task<Option<RowCount>>> {
            let (encode, shape, file) = (self.encode_task(i, plans[i].clone())?, self.layers[i].1, self.model.name.clone());
            Ok(Box::new(move || {
                let counted = encode()?.body.map(|body| count(&body, &shape)).transpose();
                counted.map_err(|reason| bad(file, reason, "report this as a bug"))
            }))
        };
        Job { stage: "figure", items: items.collect(), prepare: Box::new(prepare) }
    }

    pub(super) fn rows(&self, layer: usize, settings: &AllocationSettings) -> Result<Making<'_>> {
        let (allocation, report) = self.allocate(settings)?;
        let rate = report.rate;
        Ok(Making::of_layers(self.rows_job(allocation.plans), Piece::Rows, move |pieces| {
            self.rows_figure(layer, rate, &row_counts(pieces))
        }))
    }

    fn rows_figure(&self, layer: usize, rate: f64, counts: &[Option<RowCount>]) -> Figure {
        let of = |value: fn(&RowCount) -> f64| counts.iter().map(move |c| c.as_ref().map(value));
        let share = bars("rows left", of(|c| 100.0 * c.left as f64 / c.all.max(1) as f64));
        let number = vec![bars("all rows", of(|c| c.all as f64)), bars("rows left", of(|c| c.left as f64))];
        let panel = |name: &str, y: Axis, series| {
            let chart = Chart { x: self.layer_axis(), y, series, ..Chart::default() };
            Panel { name: name.into(), content: Content::Chart(chart) }
        };
        let sum = |value: fn(&RowCount) -> usize| counts.iter().flatten().map(value).sum::<usize>();
        let (all, left) = (sum(|c| c.all), sum(|c| c.left));
        let kept = counts.iter().filter(|c| c.is_none()).count();
        let kept = if kept == 0 { String::new() } else { format!(" Of {}, kept as stored, there are none.", counted(kept, "layer")) };
        Figure {
            which: Which::Rows,
            title: format!("Rows of coefficients left at {rate:.2} bits per weight: {left} of {all}"),
            caption: format!(
                "Every layer is encoded, and a row of its coefficients counts as left if one of its indices is not zero; without a transform rows are output channels. \
                 The others were not worth their bits, and save computing as well as bytes: fewer bits leave fewer rows.{kept}"
            ),
            source: "Young et al. 2021, Fig. 7".into(),
            layer: Some(layer),
            panels: vec![
                panel("share", Axis { at_least: Some([0.0, 100.0]), ..Axis::new("rows left", "% of the layer's rows") }, vec![share]),
                panel("number", Axis::new("rows", ""), number),
            ],
        }
    }
}

/// The counts of the pieces of [`Session::rows_job`].
pub(super) fn row_counts(pieces: Vec<Piece>) -> Vec<Option<RowCount>> {
    pieces.into_iter().map(|p| if let Piece::Rows(count) = p { count } else { unreachable!("the job is of rows") }).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{chart, made, series, session},
        *,
    };
    use crate::{
        pipeline::{decode_job, job::run},
        report::{Budget, Coding, CurveSettings},
    };

    fn at(bits: f64) -> AllocationSettings {
        AllocationSettings { budget: Budget::Bits(bits), ..AllocationSettings::default() }
    }

    /// Without a transform a row that is zero is an output channel that a decoder makes zero.
    #[test]
    fn rows_left_are_channels_that_are_not_zero_once_decoded() {
        let mut session = session();
        for coding in Coding::ALL {
            let settings = CurveSettings { coding, ..CurveSettings::default() };
            let curves = run(session.curves_job(settings), &mut |_| Ok(())).unwrap();
            session.set_curves(settings, curves);
            let none = AllocationSettings { transform: crate::report::TransformChoice::None, excludes: vec![1], ..at(0.9) };
            let figure = made(&session, Which::Rows, 0, &none);
            let (allocation, _) = session.allocate(&none).unwrap();
            let layers = run(session.encode_job(&allocation), &mut |_| Ok(())).unwrap();
            let tq = session.tq(&layers).unwrap();
            let tensors = run(decode_job(&tq), &mut |_| Ok(())).unwrap();
            let counted = series(chart(&figure, 1), "rows left");
            let mut lost = 0;
            for (i, (tensor, shape)) in session.layers.iter().enumerate() {
                let name = &session.model.tensors[*tensor].name;
                let decoded = tq.tensors.iter().position(|t| &t.name == name).unwrap();
                let values: Vec<f32> = tensors[decoded].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
                let channels = shape.groups * shape.outputs;
                let zero = values.chunks(values.len() / channels).filter(|c| c.iter().all(|v| *v == 0.0)).count();
                if i == 1 {
                    assert!(counted.points[i][1].is_nan(), "it is kept");
                } else {
                    assert_eq!(counted.points[i][1], (channels - zero) as f64, "{name}, {coding:?}");
                    lost += zero;
                }
            }
            assert!(lost > 0, "{coding:?}: there is something to see");
        }
    }

    #[test]
    fn fewer_bits_leave_fewer_rows_and_the_share_is_of_all() {
        let session = session();
        let left = |bits: f64| {
            let figure = made(&session, Which::Rows, 2, &at(bits));
            let (share, number) = (chart(&figure, 0), chart(&figure, 1));
            let (all, left) = (series(number, "all rows"), series(number, "rows left"));
            for (i, share) in share.series[0].points.iter().enumerate() {
                assert!((share[1] - 100.0 * left.points[i][1] / all.points[i][1]).abs() < 1e-9 && share[1] <= 100.0);
                assert_eq!(left.layer(i), Some(i));
            }
            let sum = left.points.iter().map(|p| p[1]).sum::<f64>();
            assert!(figure.title.contains(&format!(": {sum} of ")), "{}", figure.title);
            sum
        };
        let [few, some, most] = [0.5, 1.5, 8.0].map(left);
        assert!(few < some && some < most, "{few} {some} {most}");
    }

    /// A block without bits has no row left.
    #[test]
    fn pruned_blocks_have_no_rows() {
        let session = session();
        let locked = AllocationSettings { locks: vec![(0, 0)], ..at(4.0) };
        let figure = made(&session, Which::Rows, 0, &locked);
        assert_eq!(series(chart(&figure, 1), "rows left").points[0][1], 0.0);
    }
}
