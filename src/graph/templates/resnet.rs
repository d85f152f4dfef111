//! ResNet (He et al. 2016) as torchvision has it, with its wide and grouped relatives: the stride of a bottleneck is in its 3×3
//! convolution.

use super::sketch::{Conv, Sketch, Value};

pub(super) fn draw(s: &mut Sketch<'_>) -> Option<(String, Value)> {
    let bottleneck = s.shape("layer1.0.conv3.weight").is_some();
    let stages = [1, 2, 3, 4].map(|l| (0..).take_while(|b| s.shape(&format!("layer{l}.{b}.conv1.weight")).is_some()).count());
    let depth = match (stages, bottleneck) {
        ([2, 2, 2, 2], false) => 18,
        ([3, 4, 6, 3], false) => 34,
        ([3, 4, 6, 3], true) => 50,
        ([3, 4, 23, 3], true) => 101,
        ([3, 8, 36, 3], true) => 152,
        _ => return None,
    };
    let &[width, per_group, ..] = s.shape("layer1.0.conv2.weight")? else { return None };
    // Only bottlenecks are wide or grouped.
    if width == 0 || per_group == 0 || width % 64 != 0 || width % per_group != 0 || !bottleneck && (width != 64 || per_group != 64) {
        return None;
    }
    let (wide, groups) = (width / 64, width / per_group);
    let mut x = s.input(224);
    x = s.conv("conv1", &x, 64, Conv::new(7).stride(2))?;
    x = s.batch_norm("bn1", &x)?;
    x = s.relu("relu", &x);
    x = s.max_pool("maxpool", &x, 3, 2, 1, false);
    for (l, blocks) in stages.iter().enumerate() {
        let channels = 64 << l;
        for block in 0..*blocks {
            let stride = if l > 0 && block == 0 { 2 } else { 1 };
            let name = |part: &str| format!("layer{}.{block}.{part}", l + 1);
            // Convolutions: channels and attributes.
            let convs = match bottleneck {
                false => vec![(channels, Conv::new(3).stride(stride)), (channels, Conv::new(3))],
                true => vec![
                    (channels * wide, Conv::new(1)),
                    (channels * wide, Conv::new(3).stride(stride).groups(groups)),
                    (channels * 4, Conv::new(1)),
                ],
            };
            let mut y = x.clone();
            for (i, (channels, conv)) in convs.iter().enumerate() {
                y = s.conv(&name(&format!("conv{}", i + 1)), &y, *channels, *conv)?;
                y = s.batch_norm(&name(&format!("bn{}", i + 1)), &y)?;
                if i + 1 < convs.len() {
                    y = s.relu(&name(&format!("relu{}", i + 1)), &y);
                }
            }
            if stride != 1 || x.channels != y.channels {
                x = s.conv(&name("downsample.0"), &x, y.channels, Conv::new(1).stride(stride))?;
                x = s.batch_norm(&name("downsample.1"), &x)?;
            }
            x = s.add(&name("add"), &y, &x)?;
            x = s.relu(&name("relu"), &x);
        }
    }
    x = s.global_average_pool("avgpool", &x);
    x = s.flatten("flatten", &x, 1);
    x = s.dense("fc", &x)?;
    let name = match (groups, wide) {
        (1, 1) => format!("ResNet-{depth}"),
        (1, _) => format!("Wide ResNet-{depth}-{wide}"),
        _ => format!("ResNeXt-{depth} {groups}×{per_group}d"),
    };
    Some((format!("{name} (torchvision)"), x))
}
