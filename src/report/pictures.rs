//! Pictures that image-to-image networks give: how their numbers are read, PSNR, and what is shown of them.

use serde::{Deserialize, Serialize};

/// Which values of a network's output are black and white. All that is said of its pictures is by this: PSNR is for a peak of
/// [`PictureRange::peak`], and what is shown is clamped to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureRange {
    /// Black.
    pub low: f32,
    /// White.
    pub high: f32,
}

impl PictureRange {
    /// The range of pictures whose least and greatest value are these, over all images of the full-precision network, so that every
    /// compressed network is judged by the same one:
    ///
    /// | values | range |
    /// | --- | --- |
    /// | within −0.5 to 1.5: some overshoot is usual | 0 to 1 |
    /// | else within −1.5 to 1.5 | −1 to 1 |
    /// | else within −64 to 320, some above 16 | 0 to 255 |
    /// | others | from the least to the greatest |
    ///
    /// PSNR is defined by the range that values can have, not the one that they happen to have; torchmetrics therefore asks for it. An
    /// ONNX file does not say it, so it is told from the values. Where there is no usual range, it is that of the reference, as in torcheval.
    pub fn of(least: f32, greatest: f32) -> PictureRange {
        let within = |low: f32, high: f32| least >= low && greatest <= high;
        let (low, high) = match () {
            _ if within(-0.5, 1.5) => (0.0, 1.0),
            _ if within(-1.5, 1.5) => (-1.0, 1.0),
            _ if within(-64.0, 320.0) && greatest > 16.0 => (0.0, 255.0),
            _ if greatest > least => (least, greatest),
            // All pixels are alike.
            _ => (least, least + least.abs().max(1.0)),
        };
        PictureRange { low, high }
    }

    /// The peak of PSNR: white less black.
    pub fn peak(self) -> f64 {
        f64::from(self.high) - f64::from(self.low)
    }

    /// A value as a shade from 0 to 255; what lies beyond black or white is clamped.
    pub fn shade(self, value: f32) -> u8 {
        let part = (f64::from(value) - f64::from(self.low)) / self.peak();
        (255.0 * part).round().clamp(0.0, 255.0) as u8
    }

    /// `10 log₁₀(peak² / mean squared error)` in dB, of a squared error summed over so many values: infinite where there is none.
    pub fn psnr_db(self, error: f64, values: usize) -> f64 {
        10.0 * (self.peak() * self.peak() * values as f64 / error).log10()
    }
}

/// How the pictures of an image-to-image network were judged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PictureScore {
    /// Height, width, channels of a picture.
    pub size: [usize; 3],
    /// Which values are black and white.
    pub range: PictureRange,
    /// The peak of PSNR, [`PictureRange::peak`].
    pub peak: f64,
    /// Whether all pictures are those of the full-precision network to the last bit: PSNR is infinite then, for which JSON has no number.
    pub identical: bool,
}

impl PictureScore {
    /// In a sentence.
    pub fn words(&self) -> String {
        let ([h, w, c], PictureRange { low, high }) = (self.size, self.range);
        let kind = if c == 1 { "grey" } else { "colour" };
        format!(
            "The network gives {kind} pictures of {h}×{w} pixels from {low} (black) to {high} (white): PSNR is for a peak of {}.",
            self.peak
        )
    }
}

/// A PSNR in words, with so many decimals: infinite for pictures that are identical.
pub fn psnr_words(db: f64, decimals: usize) -> String {
    match db {
        f64::INFINITY => "identical".into(),
        db => format!("{db:.decimals$} dB").replace('-', "\u{2212}"),
    }
}

/// A picture as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Name of the image that it was made of.
    pub name: String,
    /// Its place among the images of the dataset, from 0.
    pub image: usize,
    /// Height and width of what is shown of the input; none for inputs that are no picture.
    pub input: Option<[usize; 2]>,
    /// Height and width of what is shown of the outputs.
    pub output: [usize; 2],
    /// Height and width of the whole output, of which the middle is shown.
    pub whole: [usize; 2],
    /// PSNR of the whole compressed picture against the full-precision one, in dB; none where both are identical.
    pub psnr_db: Option<f64>,
}

impl Shown {
    /// PSNR in dB, infinite where both are identical.
    pub fn psnr(&self) -> f64 {
        self.psnr_db.unwrap_or(f64::INFINITY)
    }

    /// What part is shown, in a sentence; nothing if it is the whole.
    pub fn part(&self) -> Option<String> {
        let ([h, w], [height, width]) = (self.output, self.whole);
        (self.output != self.whole).then(|| format!("Shown is the middle, {h}×{w} of {height}×{width} pixels; PSNR is of the whole."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_the_usual_ones_or_those_of_the_values() {
        let of = |low, high| {
            let PictureRange { low, high } = PictureRange::of(low, high);
            (low, high)
        };
        assert_eq!([of(0.0, 1.0), of(-0.4, 1.45), of(0.2, 0.3), of(0.0, 0.0)], [(0.0, 1.0); 4]);
        assert_eq!([of(-1.0, 1.0), of(-0.9, 0.2), of(-1.2, 1.4)], [(-1.0, 1.0); 3]);
        assert_eq!([of(0.0, 255.0), of(-20.0, 17.0), of(3.0, 300.0)], [(0.0, 255.0); 3]);
        // As normalized for ImageNet; of 16 bits; constant.
        assert_eq!([of(-2.1, 2.6), of(0.0, 65535.0), of(1000.0, 1000.0)], [(-2.1, 2.6), (0.0, 65535.0), (1000.0, 2000.0)]);
    }

    #[test]
    fn known_psnr() {
        let unit = PictureRange::of(0.0, 1.0);
        // An error of 0.1 everywhere: 20 dB.
        assert!((unit.psnr_db(0.01 * 64.0, 64) - 20.0).abs() < 1e-9);
        let bytes = PictureRange::of(0.0, 255.0);
        // One step of 255: 48.13 dB, as is well known.
        assert_eq!(format!("{:.2}", bytes.psnr_db(100.0, 100)), "48.13");
        assert!((PictureRange::of(-1.0, 1.0).psnr_db(4.0, 1)).abs() < 1e-12, "white for black");
        assert_eq!(unit.psnr_db(0.0, 64), f64::INFINITY);
        assert_eq!([psnr_words(f64::INFINITY, 2), psnr_words(48.1308, 2), psnr_words(-1.25, 1)], ["identical", "48.13 dB", "−1.2 dB"]);
    }

    #[test]
    fn shades_are_clamped() {
        let unit = PictureRange::of(0.0, 1.0);
        assert_eq!([-0.3, 0.0, 0.5, 1.0, 1.4].map(|v| unit.shade(v)), [0, 0, 128, 255, 255]);
        assert_eq!([-1.0, 0.0, 1.0].map(|v| PictureRange::of(-1.0, 1.0).shade(v)), [0, 128, 255]);
        assert_eq!([0.0, 17.4, 255.0].map(|v| PictureRange::of(0.0, 255.0).shade(v)), [0, 17, 255]);
    }
}
