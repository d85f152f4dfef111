//! Coding gains, as they are shown: `waterfill gains`.

use serde::{Deserialize, Serialize};

use super::{CalibrationSummary, TransformKind};

/// Coding gains of all layers of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GainsReport {
    /// `waterfill` and its version.
    pub program: String,
    /// File name of the model.
    pub model: String,
    /// What calibration found; without it gradients count as white, and their part of every gain is 0 dB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationSummary>,
    /// The layers.
    pub layers: Vec<LayerGains>,
}

/// Coding gains of one layer under every transform that exists for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerGains {
    /// Position among the layers.
    pub index: usize,
    /// Name of its weight tensor.
    pub name: String,
    /// Shape as stored.
    pub shape: Vec<usize>,
    /// Number of weights.
    pub weights: u64,
    /// The transforms, in the order of [`TransformKind::ALL`]; none of them for a layer that has none.
    pub transforms: Vec<TransformGain>,
}

/// Coding gain of a transform for a layer (Young et al. 2021, eq. 11), in dB: how much less error the same rate gives, at high rates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformGain {
    /// The transform.
    pub transform: TransformKind,
    /// The part of the gradients' variances.
    pub gradient_db: f64,
    /// The part of the weights' variances.
    pub weight_db: f64,
    /// Both.
    pub total_db: f64,
    /// Rate that is saved at the same error, in bits per weight: `½ log₂ G`. What the basis takes is not in it.
    pub bits_saved: f64,
    /// Whether the weights may have full rank across what the transform acts across. Where they may not, the gain is infinite but for a
    /// floor under the variances (−60 dB), and says little but how many rows lie on it: such gains are in no mean.
    pub full_rank: bool,
    /// Numbers of coefficients and bases over the number of weights, when only rows that the rank needs are stored (Section 4.3); less
    /// than zero where there are fewer of them than weights.
    pub overhead: i64,
    /// The same in per cent of the layer's weights (Fig. 5).
    pub overhead_percent: f64,
    /// The variances of rows before and after (Fig. 3), where they were asked for and the transform has rows of its own: the two-sided one
    /// has those of `klt-col` and `klt-row`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowGains>,
}

/// Variances of rows before a transform and after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowGains {
    /// Of the channels or kernel positions that it acts across.
    pub before: RowVariances,
    /// Of the rows of `T`.
    pub after: RowVariances,
}

/// Variances of rows in dB over the mean variance of their group before the transform. Rows come by falling product; the lists belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowVariances {
    /// Of the weights.
    pub weight_db: Vec<f64>,
    /// Of the gradients.
    pub gradient_db: Vec<f64>,
    /// Of weights times gradients: what a row costs if it is lost.
    pub product_db: Vec<f64>,
}

/// The mean gain over layers of one transform, weighted by nothing: over those that have it and may have full rank
/// ([`TransformGain::full_rank`]).
#[derive(Debug, Clone, PartialEq)]
pub struct MeanGain {
    /// The transform.
    pub transform: TransformKind,
    /// How many layers these are.
    pub layers: usize,
    /// Mean of [`TransformGain::gradient_db`].
    pub gradient_db: f64,
    /// Mean of [`TransformGain::weight_db`].
    pub weight_db: f64,
    /// Mean of [`TransformGain::bits_saved`].
    pub bits_saved: f64,
    /// Overhead of all these layers, in per cent of their weights.
    pub overhead_percent: f64,
}

impl GainsReport {
    /// The mean over layers of every transform that some layer has.
    pub fn means(&self) -> Vec<MeanGain> {
        let mean = |transform: TransformKind| {
            let of =
                |l: &'_ LayerGains| l.transforms.iter().find(|g| g.transform == transform && g.full_rank).map(|g| (l.weights, g.clone()));
            let gains: Vec<(u64, TransformGain)> = self.layers.iter().filter_map(of).collect();
            let count = gains.len();
            let over = |value: &dyn Fn(&TransformGain) -> f64| gains.iter().map(|(_, g)| value(g)).sum::<f64>() / count as f64;
            let weights = gains.iter().map(|(w, _)| *w).sum::<u64>().max(1);
            (count > 0).then(|| MeanGain {
                transform,
                layers: count,
                gradient_db: over(&|g| g.gradient_db),
                weight_db: over(&|g| g.weight_db),
                bits_saved: over(&|g| g.bits_saved),
                overhead_percent: 100.0 * gains.iter().map(|(_, g)| g.overhead).sum::<i64>() as f64 / weights as f64,
            })
        };
        TransformKind::ALL.into_iter().filter_map(mean).collect()
    }

    /// The gains as CSV, a line a layer and transform.
    pub fn csv(&self) -> String {
        let header = [
            "layer",
            "shape",
            "weights",
            "transform",
            "gradient_db",
            "weight_db",
            "total_db",
            "bits_saved",
            "full_rank",
            "overhead",
            "overhead_percent",
        ];
        let mut lines = vec![header.map(String::from)];
        for layer in &self.layers {
            lines.extend(layer.transforms.iter().map(|g| {
                [
                    layer.name.clone(),
                    sides(&layer.shape),
                    layer.weights.to_string(),
                    g.transform.name().into(),
                    format!("{:.4}", g.gradient_db),
                    format!("{:.4}", g.weight_db),
                    format!("{:.4}", g.total_db),
                    format!("{:.4}", g.bits_saved),
                    g.full_rank.to_string(),
                    g.overhead.to_string(),
                    format!("{:.3}", g.overhead_percent),
                ]
            }));
        }
        let mut out = csv::Writer::from_writer(Vec::new());
        lines.iter().for_each(|line| out.write_record(line).expect("writing to memory does not fail"));
        String::from_utf8(out.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is a string")
    }

    /// The gains for a terminal: every layer, then the means; then the variances of rows, where there are any.
    pub fn text(&self) -> String {
        let width = self.layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).clamp(5, 60);
        let shapes = self.layers.iter().map(|l| sides(&l.shape).chars().count()).max().unwrap_or(0).max(5);
        let mut out = format!(
            "{:<width$}  {:<shapes$}  {:<12}  {:>11}  {:>9}  {:>8}  {:>10}  {:>10}\n",
            "layer", "shape", "transform", "gradient dB", "weight dB", "total dB", "bits saved", "overhead"
        );
        let mut line = |name: &str, shape: &str, (t, full): (TransformKind, bool), [g, w, bits, overhead]: [f64; 4]| {
            let total = g + w;
            let name_of = if full { t.name().to_string() } else { format!("{} *", t.name()) };
            out += &format!(
                "{name:<width$}  {shape:<shapes$}  {name_of:<12}  {g:>11.2}  {w:>9.2}  {total:>8.2}  {bits:>10.3}  {overhead:>8.1} %\n"
            );
        };
        for layer in &self.layers {
            let (mut name, mut shape) = (&*layer.name, sides(&layer.shape));
            for g in &layer.transforms {
                line(name, &shape, (g.transform, g.full_rank), [g.gradient_db, g.weight_db, g.bits_saved, g.overhead_percent]);
                (name, shape) = ("", String::new());
            }
        }
        let mut name = "mean";
        for m in self.means() {
            line(
                name,
                &format!("{} layers", m.layers),
                (m.transform, true),
                [m.gradient_db, m.weight_db, m.bits_saved, m.overhead_percent],
            );
            name = "";
        }
        if self.layers.iter().any(|l| l.transforms.iter().any(|g| !g.full_rank)) {
            out += "* more channels than the weights' rank: variances are held above −60 dB; not in the means\n";
        }
        for layer in &self.layers {
            for g in &layer.transforms {
                out += &g.rows.as_ref().map_or_else(String::new, |rows| rows_text(layer, g.transform, rows));
            }
        }
        out
    }
}

fn sides(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

fn rows_text(layer: &LayerGains, transform: TransformKind, rows: &RowGains) -> String {
    let mut out = format!(
        "\n{}, {}: dB over the mean before\n{:>5}  {:^28}  {:^28}\n{:>5}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}\n",
        layer.name,
        transform.name(),
        "",
        "before",
        "after",
        "row",
        "weight",
        "gradient",
        "product",
        "weight",
        "gradient",
        "product"
    );
    for row in 0..rows.after.product_db.len() {
        out += &format!("{:>5}", row + 1);
        for variances in [&rows.before, &rows.after] {
            for column in [&variances.weight_db, &variances.gradient_db, &variances.product_db] {
                out += &column.get(row).map_or_else(String::new, |v| format!("  {v:>8.2}"));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> GainsReport {
        let gain = |transform, gradient_db: f64, overhead| TransformGain {
            transform,
            gradient_db,
            weight_db: 1.0,
            total_db: gradient_db + 1.0,
            bits_saved: (gradient_db + 1.0) / 6.0206,
            full_rank: overhead < 900,
            overhead,
            overhead_percent: overhead as f64 / 10.0,
            rows: None,
        };
        let layer = |index: usize, transforms| LayerGains {
            index,
            name: format!("layer {index}, \"quoted\""),
            shape: vec![10, 4, 5, 5],
            weights: 1000,
            transforms,
        };
        let variances = RowVariances { weight_db: vec![3.25, 1.0], gradient_db: vec![1.0, 0.5], product_db: vec![4.25, 1.5] };
        let mut klt = gain(TransformKind::KltRow, 0.5, 16);
        klt.rows = Some(RowGains { before: variances.clone(), after: variances });
        let layers = vec![
            layer(0, vec![klt, gain(TransformKind::IntraDct1, -0.5, 0)]),
            layer(1, vec![gain(TransformKind::KltRow, 1.5, 36), gain(TransformKind::KltCol, 60.0, 900)]),
        ];
        GainsReport { program: "waterfill".into(), model: "net.onnx".into(), calibration: None, layers }
    }

    #[test]
    fn means_are_over_the_layers_that_have_a_transform() {
        let means = report().means();
        assert_eq!(
            means.iter().map(|m| (m.transform, m.layers)).collect::<Vec<_>>(),
            [(TransformKind::KltRow, 2), (TransformKind::IntraDct1, 1)]
        );
        assert_eq!((means[0].gradient_db, means[0].weight_db, means[0].overhead_percent), (1.0, 1.0, 2.6));
        assert_eq!(GainsReport { layers: Vec::new(), ..report() }.means(), []);
    }

    #[test]
    fn all_gains_are_in_the_table_and_in_csv() {
        let text = report().text();
        for words in ["klt-row", "intra-dct1", "-0.50", "10×4×5×5", "2 layers", "2.6 %", "klt-col *", "* more channels", "before", "3.25"]
        {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        let csv = report().csv();
        let mut lines = csv::Reader::from_reader(csv.as_bytes());
        let lines: Vec<csv::StringRecord> = lines.records().collect::<Result<_, _>>().unwrap();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0].iter().collect::<Vec<_>>()[..5], ["layer 0, \"quoted\"", "10×4×5×5", "1000", "klt-row", "0.5000"]);
        let again: GainsReport = serde_json::from_str(&serde_json::to_string(&report()).unwrap()).unwrap();
        assert_eq!(again, report());
    }
}
