//! Several models compressed with the same settings, one after the other: what came of each.

use serde::{Deserialize, Serialize};

use super::Measure;

/// A model that was compressed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// Name of the compressed file.
    pub file_name: String,
    /// Bytes of the model's files.
    pub before: u64,
    /// Bytes of the compressed file.
    pub after: u64,
    /// Layers.
    pub layers: usize,
    /// Bits per weight.
    pub rate: f64,
    /// Distortion in dB, as in [`super::AllocationReport::db`].
    pub db: f64,
    /// What it is of.
    pub measure: Measure,
    /// Seconds it took.
    pub seconds: f64,
    /// Things the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// Where a model of a batch is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Progress {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It is being compressed.
    Working,
    /// It is compressed.
    Done(Box<Packed>),
    /// It cannot be: one sentence.
    Failed(String),
}

/// A model of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Name of its file.
    pub name: String,
    /// Where it is.
    pub progress: Progress,
}

impl Packed {
    /// How many times smaller it is.
    pub fn ratio(&self) -> f64 {
        self.before as f64 / self.after.max(1) as f64
    }
}

impl Progress {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Progress::Waiting => "waiting",
            Progress::Working => "working",
            Progress::Done(_) => "done",
            Progress::Failed(_) => "failed",
        }
    }
}

/// A batch as CSV, a line a model.
pub fn csv(items: &[Item]) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    let mut write = |record: Vec<String>| out.write_record(record).expect("writing to memory does not fail");
    let header = [
        "model",
        "state",
        "file",
        "bytes_before",
        "bytes_after",
        "ratio",
        "layers",
        "bits_per_weight",
        "distortion_db",
        "measure",
        "seconds",
        "said",
    ];
    write(header.map(String::from).to_vec());
    for Item { name, progress } in items {
        let mut record = vec![name.clone(), progress.name().to_string()];
        record.extend(match progress {
            Progress::Done(p) => {
                let measure = match p.measure {
                    Measure::Weights => "weights",
                    Measure::Output => "output",
                };
                let numbers = [p.before.to_string(), p.after.to_string(), format!("{:.4}", p.ratio()), p.layers.to_string()];
                let rest =
                    [format!("{:.4}", p.rate), format!("{:.3}", p.db), measure.into(), format!("{:.1}", p.seconds), p.notes.join(" ")];
                std::iter::once(p.file_name.clone()).chain(numbers).chain(rest).collect::<Vec<_>>()
            }
            Progress::Failed(why) => std::iter::repeat_n(String::new(), 9).chain([why.clone()]).collect(),
            _ => vec![String::new(); 10],
        });
        write(record);
    }
    String::from_utf8(out.into_inner().expect("writing to memory does not fail")).expect("CSV of strings is a string")
}

/// Names that no two of these have in common: what comes again is numbered, `a.tq`, `a-2.tq`.
pub fn unique(names: &[String]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let (stem, end) = name.rsplit_once('.').map_or((name.as_str(), String::new()), |(stem, end)| (stem, format!(".{end}")));
        let free = (1..).map(|n| if n == 1 { name.clone() } else { format!("{stem}-{n}{end}") }).find(|n| !taken.contains(n));
        taken.extend(free);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_model_whatever_became_of_it() {
        let packed = Packed {
            file_name: "a.tq".into(),
            before: 1000,
            after: 250,
            layers: 3,
            rate: 3.99999,
            db: -21.5,
            measure: Measure::Weights,
            seconds: 0.25,
            notes: vec!["One.".into(), "Two.".into()],
        };
        let item = |name: &str, progress| Item { name: name.into(), progress };
        let items = [
            item("a.onnx", Progress::Done(Box::new(packed))),
            item("b,c.npz", Progress::Failed("b,c.npz: it is empty; export it again.".into())),
            item("d.pth", Progress::Waiting),
            item("e.pth", Progress::Working),
        ];
        let text = csv(&items);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], "a.onnx,done,a.tq,1000,250,4.0000,3,4.0000,-21.500,weights,0.2,One. Two.");
        assert_eq!(lines[2], "\"b,c.npz\",failed,,,,,,,,,,\"b,c.npz: it is empty; export it again.\"");
        assert_eq!(lines[3], "d.pth,waiting,,,,,,,,,,");
        assert!(csv::Reader::from_reader(text.as_bytes()).records().all(|r| r.is_ok_and(|r| r.len() == 12)));
    }

    #[test]
    fn names_that_come_again_are_numbered() {
        let names = ["a.tq", "b.tq", "a.tq", "a-2.tq", "a.tq", "c", "c"].map(String::from);
        assert_eq!(unique(&names), ["a.tq", "b.tq", "a-2.tq", "a-2-2.tq", "a-3.tq", "c", "c-2"]);
    }
}
