//! A promise as the budget: at most so many points of accuracy are lost. What was tried to keep it, and what came of it.

use serde::{Deserialize, Serialize};

/// What may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promised {
    /// Top-1 accuracy on labelled images.
    Top1,
    /// Agreement with the full-precision network's first choice, where there are no labels.
    Agreement,
}

impl Promised {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Promised::Top1 => "top-1",
            Promised::Agreement => "agreement with the full-precision network",
        }
    }
}

/// A promise, and the rates that were tried for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Most that may be lost, in percentage points.
    pub lose: f64,
    /// Of what.
    pub of: Promised,
    /// Images that it was measured on.
    pub images: usize,
    /// What the full-precision network has of it, 0 to 1: its top-1, or 1 of the agreement with itself.
    pub full: f64,
    /// What was tried, in this order.
    pub tries: Vec<Try>,
    /// The smallest file of those that keep the promise, by its place in `tries`.
    pub best: Option<usize>,
}

/// A rate that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// The budget, in bits per weight.
    pub asked: f64,
    /// The rate that came of it, in bits per weight.
    pub rate: f64,
    /// Bytes of the file.
    pub bytes: u64,
    /// What its network has of what is promised, 0 to 1.
    pub has: f64,
    /// Whether that keeps the promise.
    pub keeps: bool,
}

impl Promise {
    /// Nothing was tried yet.
    pub fn new(lose: f64, of: Promised, images: usize, full: f64) -> Promise {
        Promise { lose, of, images, full, tries: Vec::new(), best: None }
    }

    /// Points that a network with this much of it has lost; negative where it has gained.
    pub fn lost(&self, has: f64) -> f64 {
        100.0 * (self.full - has)
    }

    /// Whether a network with this much of it keeps the promise.
    pub fn keeps(&self, has: f64) -> bool {
        // A part of the images has no exact number, and 1 of 100 images is 1 point.
        self.lost(has) <= self.lose + 1e-9
    }

    /// What chance alone does to it on so many images, in points: `√(p(1−p)/n)`, one standard deviation. By Laplace's rule of succession
    /// `p` is `(k+1)/(n+2)` for `k` of `n` images, so that all of a few images are no certainty.
    pub fn chance(&self, has: f64) -> f64 {
        let n = self.images as f64;
        let p = (has * n + 1.0) / (n + 2.0);
        100.0 * (p * (1.0 - p) / n.max(1.0)).sqrt()
    }

    /// The smallest file that keeps it.
    pub fn kept_by(&self) -> Option<Try> {
        self.best.and_then(|best| self.tries.get(best).copied())
    }

    /// A try in words: `1.549 bits: 31234 bytes, top-1 96.47 %, 0.50 points lost, kept`.
    pub fn tried(&self, t: &Try) -> String {
        let (has, kept) = (100.0 * t.has, if t.keeps { "kept" } else { "not kept" });
        format!("{} bits: {} bytes, {} {has:.2} %, {}, {kept}", t.asked, t.bytes, self.of.name(), lost_words(self.lost(t.has)))
    }

    /// What came of it: one or two sentences, without a number that hides how little one set of images proves.
    pub fn words(&self) -> String {
        let (of, images) = (self.of.name(), self.images);
        match (self.kept_by(), self.tries.iter().max_by(|a, b| a.asked.total_cmp(&b.asked))) {
            (Some(t), _) => format!(
                "Kept at {} bits per weight: {:.2} % of {:.2} % {of} on {images} images, {} of at most {}. Chance alone is ± {:.2} points on so \
                 many images, and these images chose the rate: others may lose more.",
                t.asked,
                100.0 * t.has,
                100.0 * self.full,
                lost_words(self.lost(t.has)),
                self.lose,
                self.chance(t.has)
            ),
            (None, Some(highest)) => format!(
                "Even at {} bits per weight {} of {of} on {images} images, more than {}: allow more, or calibrate the network.",
                highest.asked,
                lost_words(self.lost(highest.has)).replace(" lost", " are lost"),
                self.lose
            ),
            (None, None) => "Nothing was tried.".into(),
        }
    }

    /// What is measured, a sentence.
    pub fn measures(&self) -> &'static str {
        match self.of {
            Promised::Top1 => "Measured is top-1 accuracy, by the labels of the test images.",
            Promised::Agreement => {
                "The test images have no labels: measured is on how many of them the first choice is that of the full-precision network."
            }
        }
    }
}

/// Points in words: `0.50 points lost`, `0.25 points gained`.
fn lost_words(points: f64) -> String {
    if points < -0.005 { format!("{:.2} points gained", -points) } else { format!("{:.2} points lost", points.max(0.0)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A promise of one point on 400 images, of which the full-precision network has 390 right, and some tries.
    pub(crate) fn promise() -> Promise {
        let mut promise = Promise::new(1.0, Promised::Top1, 400, 0.975);
        for (asked, bytes, right) in [(1.549, 31_000, 386.0), (0.682, 15_000, 300.0), (1.028, 21_000, 391.0)] {
            let has = right / 400.0;
            let keeps = promise.keeps(has);
            promise.tries.push(Try { asked, rate: asked, bytes, has, keeps });
        }
        promise.best = Some(2);
        promise
    }

    #[test]
    fn points_are_of_whole_images() {
        let promise = promise();
        assert_eq!(promise.tries.iter().map(|t| t.keeps).collect::<Vec<_>>(), [true, false, true], "4 of 400 are one point");
        assert!(!promise.keeps(385.0 / 400.0) && promise.keeps(1.0));
        assert!((promise.lost(0.97) - 0.5).abs() < 1e-9 && promise.lost(1.0) < 0.0);
    }

    #[test]
    fn chance_is_that_of_so_many_images() {
        let promise = promise();
        assert!((promise.chance(0.9) - 100.0 * (0.9f64 * 0.1 / 400.0).sqrt()).abs() < 0.02);
        assert!(promise.chance(1.0) > 0.2, "all of 400 images are not all images");
        assert!(Promise { images: 40_000, ..promise.clone() }.chance(0.9) < promise.chance(0.9) / 9.9);
    }

    #[test]
    fn said_in_words() {
        let mut promise = promise();
        assert_eq!(promise.tried(&promise.tries[0]), "1.549 bits: 31000 bytes, top-1 96.50 %, 1.00 points lost, kept");
        assert!(promise.words().starts_with("Kept at 1.028 bits per weight: 97.75 % of 97.50 % top-1 on 400 images, 0.25 points gained"));
        assert!(promise.words().contains("Chance alone is ± 0.7"), "{}", promise.words());
        (promise.best, promise.of) = (None, Promised::Agreement);
        let words = promise.words();
        assert!(words.starts_with("Even at 1.549 bits per weight 1.00 points are lost of agreement with the full-precision"), "{words}");
        promise.tries.clear();
        assert_eq!(promise.words(), "Nothing was tried.");
    }
}
