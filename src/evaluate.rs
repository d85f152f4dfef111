//! What a network's outputs say of it: accuracy, agreement with another network, output error. Numbers only; who runs the networks
//! is [`crate::pipeline::evaluate`].
//!
//! Every image is scored by itself ([`score`]), and scores are summed in the order of the images ([`evaluation`]): however images are
//! batched and whatever threads ran them, the sums are the same to the last bit.

use crate::report::{
    Evaluation,
    pictures::{PictureRange, PictureScore},
};

/// What the first output of a network is, per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Scores of so many classes, two or more: the first choice is the greatest.
    Classes(usize),
    /// A picture: what image-to-image networks give.
    Picture(Layout),
    /// So many numbers of another meaning.
    Values(usize),
}

/// How the numbers of a picture lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Whether the channels of a pixel follow each other, `H×W×C`; else the planes of channels do, `C×H×W`.
    pub last: bool,
}

impl Layout {
    /// How a picture lies in an array of this shape: `C×H×W`, or else `H×W×C`, of 1 or 3 channels and more than one pixel in height and width.
    /// None for what is no picture, such as two channels, or scores of many classes in every pixel.
    pub fn of(shape: [usize; 3]) -> Option<Layout> {
        let [a, b, c] = shape;
        let layout = |[channels, height, width]: [usize; 3], last| {
            (matches!(channels, 1 | 3) && height > 1 && width > 1).then_some(Layout { channels, height, width, last })
        };
        layout([a, b, c], false).or_else(|| layout([c, a, b], true))
    }

    /// Where a value is.
    pub fn at(self, channel: usize, y: usize, x: usize) -> usize {
        match self.last {
            true => (y * self.width + x) * self.channels + channel,
            false => (channel * self.height + y) * self.width + x,
        }
    }

    /// Values of a picture.
    pub fn len(self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
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
            [a, b, c] => Layout::of([a, b, c]).map_or(Output::Values(per_image), Output::Picture),
            _ => Output::Values(per_image),
        })
    }

    /// Numbers per image.
    pub fn len(self) -> usize {
        match self {
            Output::Classes(n) | Output::Values(n) => n,
            Output::Picture(layout) => layout.len(),
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
        pictures: None,
        seconds,
    };
    if let Some(against) = against {
        let error: f64 = against.iter().map(|a| a.error).sum();
        let energy: f64 = against.iter().map(|a| a.energy).sum();
        out.agreement = (classes > 0).then(|| part(against.iter().filter(|a| a.agrees).count()));
        out.distortion = Some(error / images as f64);
        out.sqnr_db = decibels(energy, error);
        if let Output::Picture(Layout { channels, height, width, .. }) = output {
            let both = |(low, high): (f32, f32), a: &Against| (low.min(a.range.0), high.max(a.range.1));
            let (least, greatest) = against.iter().fold((f32::INFINITY, f32::NEG_INFINITY), both);
            let range = PictureRange::of(least, greatest);
            out.psnr_db = Some(range.psnr_db(error, images * output.len())).filter(|db| db.is_finite());
            out.pictures = Some(PictureScore { size: [height, width, channels], range, peak: range.peak(), identical: error == 0.0 });
        }
    }
    out
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
        let picture = |channels, height, width, last| Ok(Output::Picture(Layout { channels, height, width, last }));
        assert_eq!(Output::of(&[2, 3, 64, 48], 2), picture(3, 64, 48, false));
        assert_eq!(Output::of(&[1, 1, 8, 8], 1), picture(1, 8, 8, false));
        assert_eq!(Output::of(&[2, 64, 48, 3], 2), picture(3, 64, 48, true));
        // Two channels, a score per class in every pixel, a row: no pictures.
        for (shape, values) in [([2, 2, 8, 8], 128), ([2, 21, 32, 32], 21 * 1024), ([2, 3, 1, 8], 24), ([2, 8, 1, 3], 24)] {
            assert_eq!(Output::of(&shape, 2), Ok(Output::Values(values)), "{shape:?}");
        }
        assert_eq!(Output::of(&[2, 1], 2), Ok(Output::Values(1)));
        assert_eq!(Output::of(&[2, 1, 1, 1], 2), Ok(Output::Values(1)));
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
        let picture = Output::of(&[1, 1, 2, 2], 1).unwrap();
        let score = |r: &[f32; 4], by: f32| score(picture, &r.map(|v| v + by), Some(0), Some(r)).unwrap();
        let unit = evaluation("x", 0.0, picture, &[score(&[0.0, 1.25, 0.5, -0.25], 0.25)]);
        assert!((unit.psnr_db.unwrap() - 10.0 * (1.0f64 / 0.0625).log10()).abs() < 1e-9);
        assert_eq!((unit.top1, unit.agreement, unit.psnr()), (None, None, unit.psnr_db));
        assert_eq!(unit.pictures.map(|p| (p.size, p.peak, p.identical)), Some(([2, 2, 1], 1.0, false)));
        let bytes = evaluation("x", 0.0, picture, &[score(&[0.0, 200.0, 3.0, 4.0], 2.0)]);
        assert!((bytes.psnr_db.unwrap() - 10.0 * (255.0f64 * 255.0 / 4.0).log10()).abs() < 1e-9);
        // By one of two pictures both are from −1 to 1: the mean of the squared error is 0.5 · 0.04 there.
        let two = evaluation("x", 0.0, picture, &[score(&[-1.0, 1.0, 0.0, 0.0], 0.2), score(&[0.0; 4], 0.0)]);
        assert!((two.psnr_db.unwrap() - 10.0 * (4.0f64 / 0.02).log10()).abs() < 1e-5, "{two:?}");
        let same = evaluation("x", 0.0, picture, &[score(&[0.0, 0.5, 1.0, 0.0], 0.0)]);
        assert_eq!((same.psnr_db, same.psnr(), same.distortion), (None, Some(f64::INFINITY), Some(0.0)));
        assert!(same.pictures.unwrap().identical);
        let alone = super::score(picture, &[0.0; 4], None, None).unwrap();
        assert_eq!(evaluation("x", 0.0, picture, &[alone]).psnr(), None, "there is nothing to compare with");
    }

    #[test]
    fn where_a_value_is() {
        let (first, last) = (Layout::of([3, 4, 5]).unwrap(), Layout::of([4, 5, 3]).unwrap());
        assert_eq!([first.at(2, 1, 3), last.at(2, 1, 3), first.len(), last.len()], [2 * 20 + 5 + 3, 3 * 8 + 2, 60, 60]);
        assert_eq!(Layout::of([2, 8, 8]), None);
        assert!(!Layout::of([3, 8, 3]).unwrap().last, "what may be both has its channels first");
    }

    #[test]
    fn what_is_not_finite_has_no_score() {
        assert_eq!(score(FOUR, &[0.0, f32::NAN, 0.0, 0.0], None, None), None);
        assert_eq!(score(FOUR, &[0.0; 4], None, Some(&[0.0, 0.0, f32::INFINITY, 0.0])), None);
    }
}
