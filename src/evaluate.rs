//! What a network's outputs say of it: accuracy, agreement with another network, output error. Numbers only; who runs the networks
//! is [`crate::pipeline::evaluate`].
//!
//! Every image is scored by itself ([`score`]), and scores are summed in the order of the images ([`evaluation`]): however images are
//! batched and whatever threads ran them, the sums are the same to the last bit.

use crate::report::Evaluation;

/// What the first output of a network is, per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Scores of so many classes, two or more: the first choice is the greatest.
    Classes(usize),
    /// An image, `[channels, height, width]` or `[height, width, channels]`.
    Picture([usize; 3]),
    /// So many numbers of another meaning.
    Values(usize),
}

impl Output {
    /// What an output of this shape is, batch axis first. Axes of length 1 after the classes do not count.
    ///
    /// # Errors
    /// A clause, when the first axis is not the batch, or there is nothing.
    pub fn of(shape: &[usize], batch: usize) -> Result<Output, String> {
        let [first, rest @ ..] = shape else { return Err("its first output is a single number".into()) };
        let per_image: usize = rest.iter().product();
        if *first != batch || per_image == 0 {
            return Err(format!("its first output has shape {shape:?} for a batch of {batch}"));
        }
        Ok(match *rest {
            [classes, ref ones @ ..] if classes > 1 && ones.iter().all(|&n| n == 1) => Output::Classes(classes),
            [a, b, c] => Output::Picture([a, b, c]),
            _ => Output::Values(per_image),
        })
    }

    /// Numbers per image.
    pub fn len(self) -> usize {
        match self {
            Output::Classes(n) | Output::Values(n) => n,
            Output::Picture(shape) => shape.iter().product(),
        }
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a network gave for one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageScore {
    /// The label's place among the classes, 0 for the first choice; none without a label or without classes.
    pub rank: Option<usize>,
    /// Compared with the reference's output; none for the reference itself.
    pub against: Option<Against>,
}

/// An image's output compared with the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Against {
    /// Whether both have the same first choice (of classes; meaningless otherwise).
    pub agrees: bool,
    /// `‖ŷ − y‖²`, in `f64`.
    pub error: f64,
    /// `‖y‖²`, in `f64`.
    pub energy: f64,
    /// Least and greatest value of `y`.
    pub range: (f32, f32),
}

/// The index of the greatest value, the first one of several.
pub fn first_choice(y: &[f32]) -> usize {
    (1..y.len()).fold(0, |best, i| if y[i] > y[best] { i } else { best })
}

/// How many classes come before `label`: those that score higher, and of equal ones those with a smaller index. A network is right
/// at top-`k` when this is less than `k`.
pub fn rank(y: &[f32], label: usize) -> usize {
    y.iter().enumerate().filter(|&(j, &v)| v > y[label] || v == y[label] && j < label).count()
}

/// Scores one image's output `y`, against that of the reference if there is one, of the same length. None when a value is NaN or
/// infinite. The label must be a class.
pub fn score(output: Output, y: &[f32], label: Option<u32>, reference: Option<&[f32]>) -> Option<ImageScore> {
    if !y.iter().chain(reference.unwrap_or_default()).all(|v| v.is_finite()) {
        return None;
    }
    let classes = matches!(output, Output::Classes(_));
    let against = reference.map(|r| {
        let square = |v: f64| v * v;
        Against {
            agrees: classes && first_choice(y) == first_choice(r),
            error: r.iter().zip(y).map(|(&r, &y)| square(f64::from(y) - f64::from(r))).sum(),
            energy: r.iter().map(|&r| square(r.into())).sum(),
            range: r.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v))),
        }
    });
    Some(ImageScore { rank: label.filter(|_| classes).map(|label| rank(y, label as usize)), against })
}

/// Means over images.
pub fn evaluation(what: impl Into<String>, seconds: f64, output: Output, scores: &[ImageScore]) -> Evaluation {
    let images = scores.len();
    let part = |hits: usize| hits as f64 / images.max(1) as f64;
    let ranked = |k: usize| {
        let all = images > 0 && scores.iter().all(|s| s.rank.is_some());
        all.then(|| part(scores.iter().filter(|s| s.rank.is_some_and(|r| r < k)).count()))
    };
    let against: Option<Vec<Against>> = if images > 0 { scores.iter().map(|s| s.against).collect() } else { None };
    let classes = if let Output::Classes(n) = output { n } else { 0 };
    let mut out = Evaluation {
        what: what.into(),
        images,
        top1: ranked(1),
        top5: ranked(5).filter(|_| classes > 5),
        agreement: None,
        distortion: None,
        sqnr_db: None,
        psnr_db: None,
        seconds,
    };
    if let Some(against) = against {
        let error: f64 = against.iter().map(|a| a.error).sum();
        let energy: f64 = against.iter().map(|a| a.energy).sum();
        out.agreement = (classes > 0).then(|| part(against.iter().filter(|a| a.agrees).count()));
        out.distortion = Some(error / images as f64);
        out.sqnr_db = decibels(energy, error);
        if let Output::Picture(_) = output {
            let peak = peak(&against);
            out.psnr_db = decibels(peak * peak * (images * output.len()) as f64, error);
        }
    }
    out
}

/// The peak of pictures, for PSNR: 1 when the reference's values lie in −0.5 … 1.5 (pictures from 0 to 1, with some overshoot), 255
/// otherwise.
pub fn peak(against: &[Against]) -> f64 {
    if against.iter().all(|a| a.range.0 >= -0.5 && a.range.1 <= 1.5) { 1.0 } else { 255.0 }
}

/// `10 log₁₀(signal/noise)`; none where that is infinite or means nothing.
fn decibels(signal: f64, noise: f64) -> Option<f64> {
    Some(10.0 * (signal / noise).log10()).filter(|db| db.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Output = Output::Classes(4);

    #[test]
    fn outputs_by_shape() {
        assert_eq!(Output::of(&[8, 10], 8), Ok(Output::Classes(10)));
        assert_eq!(Output::of(&[8, 10, 1, 1], 8), Ok(Output::Classes(10)));
        assert_eq!(Output::of(&[2, 3, 64, 48], 2), Ok(Output::Picture([3, 64, 48])));
        assert_eq!(Output::of(&[2, 1], 2), Ok(Output::Values(1)));
        assert_eq!(Output::of(&[2, 1, 1, 1], 2), Ok(Output::Picture([1, 1, 1])));
        assert_eq!(Output::of(&[2, 7, 5], 2), Ok(Output::Values(35)));
        assert_eq!(Output::of(&[2], 2), Ok(Output::Values(1)));
        assert!(Output::of(&[], 1).is_err() && Output::of(&[1, 10], 2).is_err() && Output::of(&[2, 0], 2).is_err());
    }

    #[test]
    fn of_equal_values_the_first_comes_first() {
        let y = [1.0, 3.0, 3.0, 0.0, 3.0, -1.0, 0.5];
        assert_eq!(first_choice(&y), 1);
        assert_eq!((0..7).map(|l| rank(&y, l)).collect::<Vec<_>>(), [3, 0, 1, 5, 2, 6, 4]);
        assert_eq!(first_choice(&[2.0; 5]), 0);
        assert_eq!((0..5).map(|l| rank(&[2.0; 5], l)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn known_answers() {
        let score = |y: &[f32], label, r: &[f32]| score(FOUR, y, Some(label), Some(r)).unwrap();
        let scores = [
            score(&[1.0, 0.0, 0.0, 0.0], 0, &[2.0, 0.0, 0.0, 0.0]),
            score(&[0.0, 0.0, 1.0, 0.0], 3, &[0.0, 0.0, 0.0, 3.0]),
            score(&[0.0, 0.0, 1.0, 1.0], 2, &[0.0, 0.0, 1.0, 1.0]),
        ];
        let e = evaluation("x", 1.5, FOUR, &scores);
        assert_eq!((e.images, e.top1, e.top5), (3, Some(2.0 / 3.0), None));
        assert_eq!(e.agreement, Some(2.0 / 3.0));
        // Errors 1, 1 + 9, 0; energies 4, 9, 2.
        assert_eq!(e.distortion, Some(11.0 / 3.0));
        assert!((e.sqnr_db.unwrap() - 10.0 * (15.0f64 / 11.0).log10()).abs() < 1e-12);
        assert_eq!(e.psnr_db, None);
        let exact = evaluation("x", 0.0, FOUR, &scores[2..]);
        assert_eq!((exact.distortion, exact.sqnr_db, exact.agreement), (Some(0.0), None, Some(1.0)));
        let none = evaluation("x", 0.0, FOUR, &[]);
        assert_eq!((none.top1, none.distortion, none.agreement), (None, None, None));
    }

    #[test]
    fn top_five_of_six() {
        let six = Output::Classes(6);
        let y = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        let scores: Vec<_> = (0..6).map(|label| score(six, &y, Some(label), None).unwrap()).collect();
        let e = evaluation("x", 0.0, six, &scores);
        assert_eq!((e.top1, e.top5, e.agreement, e.distortion), (Some(1.0 / 6.0), Some(5.0 / 6.0), None, None));
    }

    #[test]
    fn pictures_have_a_peak() {
        let picture = Output::Picture([1, 2, 2]);
        let score = |r: &[f32; 4], by: f32| score(picture, &r.map(|v| v + by), Some(0), Some(r)).unwrap();
        let unit = evaluation("x", 0.0, picture, &[score(&[0.0, 1.25, 0.5, -0.25], 0.25)]);
        assert!((unit.psnr_db.unwrap() - 10.0 * (1.0f64 / 0.0625).log10()).abs() < 1e-9);
        assert_eq!((unit.top1, unit.agreement), (None, None));
        let bytes = evaluation("x", 0.0, picture, &[score(&[0.0, 200.0, 3.0, 4.0], 2.0)]);
        assert!((bytes.psnr_db.unwrap() - 10.0 * (255.0f64 * 255.0 / 4.0).log10()).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_finite_has_no_score() {
        assert_eq!(score(FOUR, &[0.0, f32::NAN, 0.0, 0.0], None, None), None);
        assert_eq!(score(FOUR, &[0.0; 4], None, Some(&[0.0, 0.0, f32::INFINITY, 0.0])), None);
    }
}
