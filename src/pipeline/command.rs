//! The command line that does what the page does.

use super::tq_name;
use crate::report::{
    AllocationSettings, Budget, CalibrationSettings, CalibrationSummary, Channels, Coding, CurveSettings, Distortion, Method,
    Preprocessing, TransformChoice,
};

/// What a `waterfill compress` is told; only what differs from its defaults is said.
#[derive(Debug, Clone, Copy)]
pub struct Compress<'a> {
    /// The model's file name.
    pub model: &'a str,
    /// Names of its layers.
    pub layers: &'a [&'a str],
    /// Settings of the allocation.
    pub settings: &'a AllocationSettings,
    /// Settings of the curves.
    pub curves: CurveSettings,
    /// What was calibrated on.
    pub calibration: Option<&'a CalibrationSummary>,
}

impl Compress<'_> {
    /// The command line.
    pub fn line(&self) -> String {
        let Compress { model, settings, .. } = self;
        let mut words = vec!["waterfill compress".to_string(), quote(model), "-o".into(), quote(&tq_name(model))];
        words.push(match settings.budget {
            Budget::Bits(bits) => format!("--bits {bits}"),
            Budget::Size(bytes) => format!("--size {bytes}"),
            Budget::Ratio(ratio) => format!("--ratio {ratio}"),
        });
        if settings.transform != TransformChoice::Auto {
            words.push(format!("--transform {}", settings.transform.name()));
        }
        let default = CurveSettings::default();
        if self.curves.blocks != default.blocks {
            words.push(format!("--blocks {}", self.curves.blocks));
        }
        let CurveSettings { coding, method, matching, .. } = self.curves;
        if method == Method::Feedback || method != self.default_method() {
            words.push(format!("--method {}", method.name()));
        }
        // Error feedback is entropy-coded in any case, and matched unless something else is said.
        if coding != if method == Method::Feedback { Coding::Entropy } else { default.coding } {
            words.push(format!("--coding {}", coding.name()));
        }
        if matching != (method == Method::Feedback) {
            words.push(if matching { "--matching" } else { "--matching=false" }.into());
        }
        if let Some(calibration) = self.calibration {
            words.extend(calibrated(calibration));
            if self.curves.method == Method::Feedback && self.curves.second_moment != default.second_moment {
                words.push(format!("--second-moment {}", self.curves.second_moment.name()));
            }
            if self.curves.distortion != default.distortion {
                words.push(format!("--distortion {}", self.curves.distortion.name()));
            }
        }
        let name = |index: usize| self.layers.get(index).copied().unwrap_or_default();
        words.extend(settings.locks.iter().map(|(index, depth)| format!("--lock {}", quote(&format!("{}={depth}", name(*index))))));
        words.extend(settings.excludes.iter().map(|index| format!("--exclude {}", quote(name(*index)))));
        words.join(" ")
    }

    /// The method where none is said: with calibration error feedback, unless something is said that asks for transforms.
    fn default_method(&self) -> Method {
        let CurveSettings { coding, distortion, .. } = self.curves;
        // Fixed lengths are the default, and so not said.
        let asks = self.settings.transform != TransformChoice::Auto || coding == Coding::Depths || distortion == Distortion::Measured;
        if self.calibration.is_some() && !asks { Method::Feedback } else { Method::Transform }
    }
}

/// The same calibration.
fn calibrated(summary: &CalibrationSummary) -> Vec<String> {
    let (settings, default) = (summary.settings, CalibrationSettings::default());
    let mut words = vec![format!("--calibration {}", quote(summary.data.path()))];
    let mut number = |name: &str, value: u64, default: u64| {
        if value != default {
            words.push(format!("--{name} {value}"));
        }
    };
    number("calibration-images", settings.images as u64, default.images as u64);
    number("draws", settings.draws as u64, default.draws as u64);
    number("seed", settings.seed, default.seed);
    if summary.preprocessing.origin == Preprocessing::EDITED {
        words.extend(inputs(&summary.preprocessing));
    }
    words
}

/// The same inputs. All numbers are given, for what they were edited from may be guessed differently elsewhere.
fn inputs(p: &Preprocessing) -> [String; 7] {
    let list = |values: &[f32]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let channels = match p.channels {
        Channels::Rgb => "rgb",
        Channels::Bgr => "bgr",
        Channels::Grey => "grey",
    };
    [
        format!("--resize {}", p.resize.unwrap_or(0)),
        format!("--crop {}", p.crop.map_or("0".into(), |[height, width]| format!("{height}x{width}"))),
        format!("--mean {}", list(&p.mean)),
        format!("--std {}", list(&p.std)),
        // As one word: it may be negative.
        format!("--scale={}", p.scale),
        format!("--channels {channels}"),
        format!("--channels-last={}", p.channels_last),
    ]
}

/// Quotes a word for a POSIX shell, where it needs to be.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = if !word.is_empty() && word.chars().all(plain) { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) };
    // A word that starts with a dash would be read as an option.
    if quoted.starts_with('-') { format!("./{quoted}") } else { quoted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SecondMoment, calibration::tests::summary};

    fn line(settings: &AllocationSettings, curves: CurveSettings, calibration: Option<&CalibrationSummary>) -> String {
        Compress { model: "my net.onnx", layers: &["conv1.weight", "fc weight"], settings, curves, calibration }.line()
    }

    #[test]
    fn only_what_differs_from_the_defaults_is_said() {
        let (settings, curves) = (AllocationSettings::default(), CurveSettings::default());
        assert_eq!(line(&settings, curves, None), "waterfill compress 'my net.onnx' -o 'my net.tq' --bits 4");
        let settings = AllocationSettings {
            budget: Budget::Ratio(7.5),
            transform: TransformChoice::KltRow,
            locks: vec![(0, 8)],
            excludes: vec![1],
            ..Default::default()
        };
        // Without calibration an error costs the same in either form.
        let curves = CurveSettings { blocks: 4, distortion: Distortion::Diagonal, coding: Coding::Depths, ..Default::default() };
        assert_eq!(
            line(&settings, curves, None),
            "waterfill compress 'my net.onnx' -o 'my net.tq' --ratio 7.5 --transform klt-row --blocks 4 --coding depths --lock conv1.weight=8 --exclude 'fc weight'"
        );
    }

    #[test]
    fn calibration_is_said_with_its_own_settings() {
        let (settings, curves) = (AllocationSettings::default(), CurveSettings::default());
        let start = "waterfill compress 'my net.onnx' -o 'my net.tq' --bits 4 --method transform --calibration digits.npz";
        let plain = summary();
        assert_eq!(line(&settings, curves, Some(&plain)), start);
        let other = CalibrationSummary { settings: CalibrationSettings { images: 50, draws: 3, seed: 7 }, ..plain.clone() };
        let diagonal = CurveSettings { distortion: Distortion::Diagonal, ..curves };
        assert_eq!(
            line(&settings, diagonal, Some(&other)),
            format!("{start} --calibration-images 50 --draws 3 --seed 7 --distortion diagonal")
        );
        let blocks = CurveSettings { blocks: 1, ..curves };
        assert_eq!(line(&settings, blocks, Some(&plain)), start.replace("--method", "--blocks 1 --method"));
    }

    #[test]
    fn the_method_is_said_where_another_would_be_taken() {
        let (settings, found) = (AllocationSettings::default(), summary());
        let words = |settings: &AllocationSettings, curves| {
            let line = line(settings, curves, Some(&found));
            line.strip_prefix("waterfill compress 'my net.onnx' -o 'my net.tq' --bits 4 ").unwrap_or_default().to_string()
        };
        let transform = CurveSettings::default();
        // Said without need, so that nobody has to know the default.
        let feedback = CurveSettings { coding: Coding::Entropy, method: Method::Feedback, matching: true, ..transform };
        assert_eq!(words(&settings, feedback), "--method feedback --calibration digits.npz");
        let klt = AllocationSettings { transform: TransformChoice::KltRow, ..settings.clone() };
        assert_eq!(words(&klt, feedback), "--transform klt-row --method feedback --calibration digits.npz");
        let unmatched = CurveSettings { matching: false, distortion: Distortion::Diagonal, ..feedback };
        assert_eq!(words(&settings, unmatched), "--method feedback --matching=false --calibration digits.npz --distortion diagonal");

        let inputs = CurveSettings { second_moment: SecondMoment::Inputs, ..feedback };
        assert_eq!(words(&settings, inputs), "--method feedback --calibration digits.npz --second-moment inputs");

        let entropy = CurveSettings { coding: Coding::Entropy, ..transform };
        assert_eq!(words(&settings, entropy), "--method transform --coding entropy --calibration digits.npz");
        let depths = CurveSettings { coding: Coding::Depths, ..transform };
        assert_eq!(words(&settings, depths), "--coding depths --calibration digits.npz");
        let matched = CurveSettings { matching: true, ..depths };
        assert_eq!(words(&settings, matched), "--coding depths --matching --calibration digits.npz");
        let measured = CurveSettings { distortion: Distortion::Measured, ..transform };
        assert_eq!(words(&settings, measured), "--calibration digits.npz --distortion measured");
        assert_eq!(words(&klt, transform), "--transform klt-row --calibration digits.npz");
        // Without calibration there is one method.
        assert!(!line(&settings, entropy, None).contains("--method"));
    }

    #[test]
    fn several_files_are_named_by_a_folder_to_be_put_in() {
        let mut loose = summary();
        (loose.data.name, loose.data.several) = ("0.png and 5 more".into(), true);
        let command = line(&AllocationSettings::default(), CurveSettings::default(), Some(&loose));
        assert!(command.ends_with(" --bits 4 --method transform --calibration DIR"), "{command}");
    }

    #[test]
    fn edited_inputs_are_said_in_full() {
        let (settings, curves) = (AllocationSettings::default(), CurveSettings::default());
        let mut edited = summary();
        edited.preprocessing.origin = Preprocessing::EDITED.into();
        let command = line(&settings, curves, Some(&edited));
        assert!(
            command.ends_with(" --resize 0 --crop 0 --mean 0.306 --std 0.3762 --scale=0.003921569 --channels grey --channels-last=false"),
            "{command}"
        );
        edited.preprocessing.crop = Some([224, 160]);
        edited.preprocessing.resize = Some(256);
        (edited.preprocessing.channels, edited.preprocessing.channels_last) = (Channels::Bgr, true);
        edited.preprocessing.mean = vec![-1.0, 0.5, 1.0];
        let command = line(&settings, curves, Some(&edited));
        let end = " --resize 256 --crop 224x160 --mean -1,0.5,1 --std 0.3762 --scale=0.003921569 --channels bgr --channels-last=true";
        assert!(command.ends_with(end), "{command}");
    }
}
