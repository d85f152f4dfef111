//! The page's glossary: every term of the field that the page uses, in plain sentences. One table, from which the explanations at terms
//! ([`super::term`]), the list at the end of the page, and what screen readers say are made.

/// Where the paper is: Young, Zhe, Taubman, Girod, "Transform Quantization for CNN Compression", TPAMI 2021.
pub const PAPER: &str = "https://arxiv.org/abs/2009.01174";

/// A term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// What it is called in the code, and in the addresses of its entry.
    pub key: &'static str,
    /// What it is called on the page.
    pub term: &'static str,
    /// One or two sentences.
    pub words: &'static str,
    /// Where in the paper; nothing if it is not there.
    pub paper: Option<&'static str>,
}

impl Entry {
    /// Where it is, in words.
    pub fn source(&self) -> String {
        self.paper.map_or_else(|| "Not in the paper.".into(), |place| format!("In the paper: {place}."))
    }
}

const fn entry(key: &'static str, term: &'static str, words: &'static str, paper: Option<&'static str>) -> Entry {
    Entry { key, term, words, paper }
}

/// All of them, by their terms in the order of the alphabet.
pub const ENTRIES: &[Entry] = &[
    entry(
        "agreement",
        "agreement",
        "How often the compressed network makes the same first choice as the full-precision one, in percent of images. It needs no labels.",
        None,
    ),
    entry(
        "basis",
        "basis",
        "The vectors that a transform's axes point along. The decoder needs them to turn coefficients back into weights, so they are in the file and count as rate.",
        Some("Section 4.2"),
    ),
    entry(
        "bits-per-weight",
        "bits per weight",
        "All bits of the compressed layers divided by the number of weights they had. Uncompressed they mostly take 32 bits each.",
        Some("Section 3"),
    ),
    entry(
        "block",
        "block",
        "A group of rows of coefficients of similar variance, which share one depth and one step size.",
        Some("Section 5.1"),
    ),
    entry(
        "budget",
        "budget",
        "What the compressed file may take: bits per weight, bytes, or a part of the original size.",
        Some("Algorithm 1"),
    ),
    entry(
        "calibration",
        "calibration",
        "Running the network on a few images to see how much its output feels an error of each weight. Images need no labels for it.",
        Some("Section 4.2"),
    ),
    entry(
        "coding-gain",
        "coding gain",
        "How much smaller the distortion becomes at the same rate when coefficients are quantized instead of weights, in decibels. Every 6.02 dB save one bit per weight.",
        Some("eq. 11 and Fig. 3"),
    ),
    entry(
        "coefficient",
        "coefficient",
        "A weight's value along an axis of the transform. Coefficients are quantized and stored in place of weights.",
        Some("Section 4.2"),
    ),
    entry("compression-ratio", "compression ratio", "Bytes of the original file over bytes of the compressed one.", None),
    entry(
        "correlation",
        "correlation",
        "How far one number tells another, from −1 to 1. Correlated weights repeat each other, and what is repeated need not be stored twice.",
        Some("Section 4.2"),
    ),
    entry(
        "covariance",
        "covariance matrix",
        "The table of how much every pair of channels varies together. Its eigenvectors are the axes along which weights are no longer correlated.",
        Some("Section 4.2"),
    ),
    entry(
        "dct",
        "DCT",
        "Discrete cosine transform: a fixed rotation, as in JPEG, which is here used within a kernel. Nothing has to be stored for it.",
        Some("Section 7.2 and Table 6"),
    ),
    entry(
        "dead-zone",
        "dead zone",
        "A quantizer's cell around zero that is wider than the others. More weights become zero, which costs a little error and saves more bits when indices are entropy-coded.",
        None,
    ),
    entry(
        "decibel",
        "decibel (dB)",
        "Ten times the decimal logarithm of a ratio of powers: 10 dB are a factor of ten, 3 dB about a factor of two.",
        None,
    ),
    entry("depth", "depth", "Bits of one quantizer's index: 3 bits distinguish eight values, 0 bits only the value zero.", Some("eq. 5")),
    entry(
        "distortion",
        "distortion",
        "How much is lost: the squared error that compression makes, over the power of what it is an error of, in decibels. Lower is better.",
        Some("Section 3"),
    ),
    entry(
        "draws",
        "draws per image",
        "Random directions of the output that gradients are taken along. More draws per image give a more exact calibration, and take longer.",
        Some("Section 4.2"),
    ),
    entry(
        "eigenvalue",
        "eigenvalue",
        "The variance along one axis of the KLT. A few large ones and many small ones mean that there is much to gain.",
        Some("Section 4.2"),
    ),
    entry(
        "elt",
        "ELT",
        "End-to-end learned transform: it decorrelates weights, and takes into account how much the network's output feels an error along every axis. It needs a calibration.",
        Some("Theorem 3"),
    ),
    entry(
        "entropy",
        "entropy",
        "The fewest bits per index, on average, that any lossless code needs if indices are independent. Rare values cost many bits, frequent ones few.",
        None,
    ),
    entry(
        "entropy-coding",
        "entropy coding",
        "Writing frequent indices in fewer bits than rare ones, without loss. Here by an adaptive range coder.",
        Some("an outlook there, worked out here"),
    ),
    entry(
        "error-feedback",
        "error feedback",
        "Weights are quantized one after the other, and each makes good, as far as it can, what the errors before it do to the output.",
        None,
    ),
    entry("exclude", "exclude", "An excluded layer is not compressed: its weights are in the file bit for bit.", None),
    entry(
        "matching",
        "gain and bias matching",
        "After quantization every output channel is scaled and shifted, so that its mean and spread on calibration images are again those of the original.",
        None,
    ),
    entry("gap", "gap", "Bits per weight that a layer takes above the limit, at its own distortion.", None),
    entry(
        "gradient",
        "gradient",
        "How much the network's output changes when a weight changes a little. An error where gradients are large does more damage.",
        Some("Section 4.2"),
    ),
    entry(
        "index",
        "index",
        "The number of the cell that a value falls into. Indices are what is stored; times the step size they are the decoded values.",
        Some("eq. 5"),
    ),
    entry(
        "klt",
        "KLT",
        "Karhunen–Loève transform: the rotation to the axes along which weights are not correlated. Of all rotations it gives the greatest coding gain for the weights alone.",
        Some("Section 4.2"),
    ),
    entry(
        "limit",
        "limit",
        "The rate that no coder comes below at this distortion, if weights were Gaussian noise of the same variances. Computed by reverse water-filling.",
        None,
    ),
    entry("lock", "lock", "A locked layer keeps the depth you give it, and the bits of all others are shared out around it.", None),
    entry(
        "measured-distortion",
        "measured distortion",
        "Distortion of the output found by running the quantized network, not by a model.",
        Some("Algorithm 2"),
    ),
    entry("method", "method", "How a layer is compressed: by a transform, or by error feedback.", None),
    entry(
        "operating-point",
        "operating point",
        "The point on the curve that you have chosen: one rate, and the distortion that comes with it.",
        Some("Fig. 2"),
    ),
    entry(
        "output-distortion",
        "output distortion",
        "The expected squared error of the network's output, which compressing its weights causes.",
        Some("Section 3"),
    ),
    entry(
        "overhead",
        "overhead",
        "Bits that are not indices: bases, step sizes, depths, headers. They count as rate here.",
        Some("Section 4.3 and Fig. 5"),
    ),
    entry(
        "preprocessing",
        "preprocessing",
        "How an image becomes the network's input: size, order of channels, scale, mean and deviation. It must be what the network was trained with.",
        None,
    ),
    entry(
        "pruning",
        "pruning",
        "Leaving weights out. Here nobody decides it: a row of coefficients whose variance lies under the water level gets no bits, and is zero.",
        Some("Section 4.3 and Fig. 7"),
    ),
    entry(
        "psnr",
        "PSNR",
        "Peak signal-to-noise ratio, for networks whose outputs are pictures: the square of the peak (white less black) over the mean squared error of the pixels, in decibels. Here against the full-precision network's pictures.",
        None,
    ),
    entry(
        "quantizer",
        "quantizer",
        "Rounds a value to the nearest multiple of a step size. This is where the loss happens.",
        Some("eq. 5"),
    ),
    entry(
        "rate",
        "rate",
        "What the compressed weights take, in bits per weight of the original. Everything that a decoder needs is counted.",
        Some("Section 3"),
    ),
    entry(
        "rd-curve",
        "rate–distortion curve",
        "The least distortion that can be had at each rate. Every point of it is a compressed network.",
        Some("Section 3, Figs. 2 and 6"),
    ),
    entry(
        "retraining",
        "retraining",
        "Training the quantized network for a few more rounds, so that its weights adapt. This program does not do it.",
        Some("Section 5.3"),
    ),
    entry(
        "sampling-error",
        "sampling error",
        "How far the calibration may be off because it has seen only some images. Four times as many images halve it.",
        None,
    ),
    entry(
        "slope",
        "slope",
        "How much distortion one more bit takes away. When bits are shared out well it is the same in every layer.",
        Some("eq. 8 and Fig. 2"),
    ),
    entry(
        "sqnr",
        "SQNR",
        "Signal-to-quantization-noise ratio: the output's power over that of its error, in decibels. Higher is better.",
        None,
    ),
    entry(
        "step-size",
        "step size",
        "The distance of a quantizer's values. Half the step is a quarter of the squared error, and one more bit.",
        Some("Section 5.1 and Fig. 8"),
    ),
    entry("top-1", "top-1 accuracy", "Percent of labelled images for which the network's first choice is the label.", Some("Fig. 9")),
    entry("top-5", "top-5 accuracy", "Percent of labelled images for which the label is among the network's first five choices.", None),
    entry(
        "transform",
        "transform",
        "A change of axes before quantizing. A good one packs what matters into few coefficients.",
        Some("Section 4.2"),
    ),
    entry(
        "trellis",
        "trellis-coded quantization",
        "Two interleaved quantizers take turns by a fixed rule, and the best path through them is searched. It has a smaller error than one quantizer at the same rate.",
        None,
    ),
    entry(
        "two-sided",
        "two-sided transform",
        "Decorrelates both output and input channels of a layer. It needs two bases.",
        Some("Section 7.1"),
    ),
    entry(
        "water-level",
        "water level λ",
        "The one slope that all layers share. Variances above it get bits until their errors are down to it; what lies under it gets none.",
        Some("eq. 8 and Algorithm 1"),
    ),
    entry("weight", "weight", "One trained number of the network. A layer has thousands to millions of them.", Some("Section 3")),
    entry(
        "zero-row",
        "zero row",
        "A row of coefficients that got no bits. Its axis need not be stored, nor multiplied with.",
        Some("Section 4.3 and Fig. 7"),
    ),
];

/// The entry of a key.
pub fn find(key: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|e| e.key == key)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// All sources of the page.
    fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else {
                into.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }

    #[test]
    fn every_term_on_the_page_is_in_the_glossary() {
        let mut all = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui"), &mut all);
        let mut used = BTreeSet::new();
        for (path, text) in &all {
            for place in text.split("<Term key=\"").skip(1) {
                let key = place.split('"').next().unwrap();
                assert!(find(key).is_some(), "{path}: there is no entry for {key}");
                used.insert(key.to_string());
            }
        }
        for key in ["rate", "distortion", "coding-gain", "water-level", "calibration", "top-1", "limit", "lock", "exclude"] {
            assert!(used.contains(key), "{key} is nowhere on the page");
        }
    }

    #[test]
    fn entries_are_sorted_whole_and_say_each_thing_once() {
        let sorted: Vec<_> = ENTRIES.iter().map(|e| e.term.to_lowercase()).collect();
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1], "{} comes before {}", pair[1], pair[0]);
        }
        let keys: BTreeSet<_> = ENTRIES.iter().map(|e| e.key).collect();
        assert_eq!(keys.len(), ENTRIES.len());
        for e in ENTRIES {
            assert!(!e.key.is_empty() && e.key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", e.key);
            assert!(e.words.len() > 40 && e.words.ends_with('.') && e.words.len() < 260, "{}: {}", e.key, e.words.len());
            let sentences = e.words.matches(". ").count() + 1;
            assert!((1..=3).contains(&sentences), "{}: {sentences} sentences", e.key);
            assert!(e.source().ends_with('.') && e.paper.is_none_or(|p| !p.is_empty() && !p.ends_with('.')), "{}", e.key);
        }
    }

    #[test]
    fn the_words_of_the_field_are_there() {
        let needed = "rate distortion bits-per-weight coding-gain klt elt step-size dead-zone water-level entropy-coding error-feedback calibration matching \
            sqnr psnr top-1 agreement limit overhead basis lock exclude depth budget trellis";
        for key in needed.split_whitespace() {
            assert!(find(key).is_some(), "{key}");
        }
        assert_eq!(find("no such term"), None);
    }
}
