//! ResNets for 32×32 pixels (He et al. 2016, Section 4.2), named as in akamaster/pytorch_resnet_cifar10: three stages of 16, 32 and 64
//! channels. Where these change, the shortcut is subsampled and padded with zeros (option A) or convolved (option B).

use super::sketch::{Conv, Sketch, Value};

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let blocks = (0..).take_while(|b| s.shape(&format!("layer1.{b}.conv1.weight")).is_some()).count();
    let convolved = s.shape("layer2.0.shortcut.0.weight").is_some();
    let mut x = s.input(32);
    x = s.conv("conv1", &x, 16, Conv::new(3))?;
    x = s.batch_norm("bn1", &x)?;
    x = s.relu("relu", &x);
    for (l, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if l > 0 && block == 0 { 2 } else { 1 };
            let name = |part: &str| format!("layer{}.{block}.{part}", l + 1);
            let mut y = s.conv(&name("conv1"), &x, channels, Conv::new(3).stride(stride))?;
            y = s.batch_norm(&name("bn1"), &y)?;
            y = s.relu(&name("relu1"), &y);
            y = s.conv(&name("conv2"), &y, channels, Conv::new(3))?;
            y = s.batch_norm(&name("bn2"), &y)?;
            if x.channels != channels {
                x = match convolved {
                    true => {
                        x = s.conv(&name("shortcut.0"), &x, channels, Conv::new(1).stride(stride))?;
                        s.batch_norm(&name("shortcut.1"), &x)?
                    }
                    false => s.subsample_and_pad(&name("shortcut"), &x, channels / 4),
                };
            }
            x = s.add(&name("add"), &y, &x)?;
            x = s.relu(&name("relu"), &x);
        }
    }
    x = s.global_average_pool("avgpool", &x);
    x = s.flatten("flatten", &x, 1);
    x = s.dense("linear", &x)?;
    let depth = 6 * blocks + 2;
    Some((format!("ResNet-{depth} for CIFAR, shortcuts {}", if convolved { "B" } else { "A" }), x))
}
