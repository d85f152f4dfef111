//! DenseNet (Huang et al. 2017) as torchvision has it.

use super::sketch::{Conv, Sketch, Value};

/// Depth, growth rate, channels of the first convolution, layers of each block.
const DEPTHS: [(usize, usize, usize, [usize; 4]); 4] =
    [(121, 32, 64, [6, 12, 24, 16]), (161, 48, 96, [6, 12, 36, 24]), (169, 32, 64, [6, 12, 32, 32]), (201, 32, 64, [6, 12, 48, 32])];

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let layer = |block: usize, layer: usize| format!("features.denseblock{block}.denselayer{layer}");
    let blocks = [1, 2, 3, 4].map(|b| (1..).take_while(|l| s.shape(&format!("{}.conv1.weight", layer(b, *l))).is_some()).count());
    let &(depth, growth, first, _) = DEPTHS.iter().find(|d| d.3 == blocks)?;
    let mut x = s.input(224);
    x = s.conv("features.conv0", &x, first, Conv::new(7).stride(2))?;
    x = s.batch_norm("features.norm0", &x)?;
    x = s.relu("features.relu0", &x);
    x = s.max_pool("features.pool0", &x, 3, 2, 1, false);
    for (b, layers) in blocks.iter().enumerate() {
        for l in 0..*layers {
            let name = |part: &str| format!("{}.{part}", layer(b + 1, l + 1));
            let mut y = s.batch_norm(&name("norm1"), &x)?;
            y = s.relu(&name("relu1"), &y);
            y = s.conv(&name("conv1"), &y, 4 * growth, Conv::new(1))?;
            y = s.batch_norm(&name("norm2"), &y)?;
            y = s.relu(&name("relu2"), &y);
            y = s.conv(&name("conv2"), &y, growth, Conv::new(3))?;
            x = s.concat(&name("concat"), &x, &y);
        }
        if b < 3 {
            let name = |part: &str| format!("features.transition{}.{part}", b + 1);
            x = s.batch_norm(&name("norm"), &x)?;
            x = s.relu(&name("relu"), &x);
            let half = x.channels / 2;
            x = s.conv(&name("conv"), &x, half, Conv::new(1))?;
            x = s.average_pool(&name("pool"), &x, 2);
        }
    }
    x = s.batch_norm("features.norm5", &x)?;
    x = s.relu("relu", &x);
    x = s.global_average_pool("avgpool", &x);
    x = s.flatten("flatten", &x, 1);
    x = s.dense("classifier", &x)?;
    Some((format!("DenseNet-{depth} (torchvision)"), x))
}
