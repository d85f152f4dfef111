//! AlexNet as torchvision has it (Krizhevsky 2014, "One weird trick").

use super::sketch::{Conv, Sketch, Value};

/// Its convolutions: position, channels, attributes, and whether a pooling follows.
const FEATURES: [(usize, usize, Conv, bool); 5] = [
    (0, 64, conv(11, 4, 2), true),
    (3, 192, conv(5, 1, 2), true),
    (6, 384, conv(3, 1, 1), false),
    (8, 256, conv(3, 1, 1), false),
    (10, 256, conv(3, 1, 1), true),
];

const fn conv(kernel: usize, stride: usize, pad: usize) -> Conv {
    Conv { kernel, stride, pad, groups: 1, bias: true }
}

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let mut x = s.input(224);
    for (at, channels, conv, pool) in FEATURES {
        x = s.conv(&format!("features.{at}"), &x, channels, conv)?;
        x = s.relu(&format!("features.{}", at + 1), &x);
        if pool {
            x = s.max_pool(&format!("features.{}", at + 2), &x, 3, 2, 0, false);
        }
    }
    // The adaptive pooling to 6×6 gets 6×6 from images of 224×224.
    x = s.flatten("flatten", &x, 6);
    for (at, last) in [(1, false), (4, false), (6, true)] {
        x = s.dense(&format!("classifier.{at}"), &x)?;
        if !last {
            x = s.relu(&format!("classifier.{}", at + 1), &x);
        }
    }
    Some(("AlexNet (torchvision)".into(), x))
}
