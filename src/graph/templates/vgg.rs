//! VGG (Simonyan and Zisserman 2015) as torchvision has it, with and without batch norm.

use super::sketch::{Conv, Sketch, Value};

/// Depth, and convolutions before each of the five poolings.
const DEPTHS: [(usize, [usize; 5]); 4] = [(11, [1, 1, 2, 2, 2]), (13, [2, 2, 2, 2, 2]), (16, [2, 2, 3, 3, 3]), (19, [2, 2, 4, 4, 4])];
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let normed = s.shape("features.1.running_var").is_some();
    // A convolution, perhaps its batch norm, and its activation; and the poolings.
    let length = |stages: &[usize; 5]| stages.iter().sum::<usize>() * if normed { 3 } else { 2 } + 5;
    let last = |stages: &[usize; 5]| format!("features.{}.weight", length(stages) - if normed { 4 } else { 3 });
    let (depth, stages) = DEPTHS.iter().rev().find(|(_, stages)| s.shape(&last(stages)).is_some_and(|shape| shape.len() == 4))?;
    let mut x = s.input(224);
    let mut at = 0;
    let mut next = || {
        at += 1;
        format!("features.{}", at - 1)
    };
    for (convs, channels) in stages.iter().zip(CHANNELS) {
        for _ in 0..*convs {
            x = s.conv(&next(), &x, channels, Conv::new(3).bias())?;
            if normed {
                x = s.batch_norm(&next(), &x)?;
            }
            x = s.relu(&next(), &x);
        }
        x = s.max_pool(&next(), &x, 2, 2, 0, false);
    }
    // The adaptive pooling to 7×7 gets 7×7 from images of 224×224.
    x = s.flatten("flatten", &x, 7);
    for at in [0, 3, 6] {
        x = s.dense(&format!("classifier.{at}"), &x)?;
        if at < 6 {
            x = s.relu(&format!("classifier.{}", at + 1), &x);
        }
    }
    Some((format!("VGG-{depth}{} (torchvision)", if normed { " with batch norm" } else { "" }), x))
}
