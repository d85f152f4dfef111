//! SqueezeNet 1.0 and 1.1 (Iandola et al. 2016) as torchvision has them.

use super::sketch::{Conv, Sketch, Value};

/// A version: channels and kernel of the first convolution, and what follows its activation: poolings (0) and Fire modules (channels
/// of the squeezing convolution; the expanding ones have four times as many).
type Version = (&'static str, usize, usize, &'static [usize]);

const VERSIONS: [Version; 2] =
    [("1.0", 96, 7, &[0, 16, 16, 32, 0, 32, 48, 48, 64, 0, 64]), ("1.1", 64, 3, &[0, 16, 16, 0, 32, 32, 0, 48, 48, 64, 64])];

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let &[first, _, kernel, _] = s.shape("features.0.weight")? else { return None };
    let (version, _, _, parts) = VERSIONS.iter().find(|v| (v.1, v.2) == (first, kernel))?;
    let mut x = s.input(224);
    x = s.conv("features.0", &x, first, Conv::new(kernel).stride(2).pad(0).bias())?;
    x = s.relu("features.1", &x);
    for (at, &squeezed) in (2..).zip(*parts) {
        let name = |part: &str| format!("features.{at}.{part}");
        if squeezed == 0 {
            x = s.max_pool(&format!("features.{at}"), &x, 3, 2, 0, true);
            continue;
        }
        x = layer(s, &name("squeeze"), &x, squeezed, 1)?;
        let a = layer(s, &name("expand1x1"), &x, 4 * squeezed, 1)?;
        let b = layer(s, &name("expand3x3"), &x, 4 * squeezed, 3)?;
        x = s.concat(&name("concat"), &a, &b);
    }
    let classes = s.shape("classifier.1.bias")?.first().copied()?;
    x = s.conv("classifier.1", &x, classes, Conv::new(1).bias())?;
    x = s.relu("classifier.2", &x);
    x = s.global_average_pool("classifier.3", &x);
    x = s.flatten("flatten", &x, 1);
    Some((format!("SqueezeNet {version} (torchvision)"), x))
}

/// Convolution and activation.
fn layer(s: &mut Sketch<'_>, name: &str, x: &Value, channels: usize, kernel: usize) -> Option<Value> {
    let y = s.conv(name, x, channels, Conv::new(kernel).bias())?;
    Some(s.relu(&format!("{name}_activation"), &y))
}
