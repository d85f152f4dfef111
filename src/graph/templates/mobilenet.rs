//! MobileNet-v2 (Sandler et al. 2018) as torchvision has it; its widths are free.

use super::sketch::{Conv, Sketch, Value};

/// For each of the inverted residuals that change the size or the number of channels: how many there are, and the first one's stride.
const STAGES: [(usize, usize); 7] = [(1, 1), (2, 2), (3, 2), (4, 2), (3, 1), (3, 2), (1, 1)];

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let mut x = s.input(224);
    x = layer(s, "features.0", &x, Conv::new(3).stride(2))?;
    let mut at = 0;
    for (blocks, stride) in STAGES {
        for block in 0..blocks {
            at += 1;
            let name = |part: usize| format!("features.{at}.conv.{part}");
            let stride = if block == 0 { stride } else { 1 };
            // The first one of all does not expand.
            let mut y = x.clone();
            let mut part = 0;
            if at > 1 {
                y = layer(s, &name(part), &y, Conv::new(1))?;
                part += 1;
            }
            y = layer(s, &name(part), &y, Conv::new(3).stride(stride).groups(y.channels))?;
            let channels = outputs(s, &name(part + 1))?;
            y = s.conv(&name(part + 1), &y, channels, Conv::new(1))?;
            y = s.batch_norm(&name(part + 2), &y)?;
            x = match stride == 1 && x.channels == y.channels {
                true => s.add(&format!("features.{at}.add"), &x, &y)?,
                false => y,
            };
        }
    }
    x = layer(s, &format!("features.{}", at + 1), &x, Conv::new(1))?;
    x = s.global_average_pool("avgpool", &x);
    x = s.flatten("flatten", &x, 1);
    x = s.dense("classifier.1", &x)?;
    Some(("MobileNet-v2 (torchvision)".into(), x))
}

/// Convolution, batch norm and activation.
fn layer(s: &mut Sketch<'_>, name: &str, x: &Value, conv: Conv) -> Option<Value> {
    let channels = outputs(s, &format!("{name}.0"))?;
    // A depthwise convolution keeps its channels.
    if conv.groups > 1 && channels != x.channels {
        return None;
    }
    let y = s.conv(&format!("{name}.0"), x, channels, conv)?;
    let y = s.batch_norm(&format!("{name}.1"), &y)?;
    Some(s.relu6(&format!("{name}.2"), &y))
}

/// Channels that a convolution gives: one at least.
fn outputs(s: &Sketch<'_>, name: &str) -> Option<usize> {
    s.shape(&format!("{name}.weight"))?.first().copied().filter(|&n| n > 0)
}
