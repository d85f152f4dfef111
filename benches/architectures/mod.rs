//! Networks to measure, made of seeded weights, batch normalization folded into convolutions: nothing has to be downloaded, and time
//! does not depend on what weights say. Shared by the native benchmark (`networks.rs`) and the one in Wasm (`speed.rs`).

#[path = "../noise.rs"]
mod noise;

use std::sync::Arc;

pub use noise::noise;

use waterfill::nn::{
    Builder, Hooks, Network, NoHooks, Operator, Tensor,
    arrange::Reshape,
    binary::Binary,
    conv::Conv,
    dense::Gemm,
    kernel::fastest,
    network::ValueId,
    pool::{AveragePool, MaxPool},
    unary::Unary,
    window::Window,
};

/// The networks, with the number of images and the size the issue measures them with.
pub const ALL: [(&str, usize); 4] = [("ResNet-18", 4), ("ResNet-20", 32), ("MobileNet-v2", 4), ("ResNet-50", 1)];

/// A network of [`ALL`] for a number of images.
pub fn network(name: &str, images: usize) -> Network {
    match name {
        "ResNet-18" => resnet(images, &[2, 2, 2, 2], false),
        "ResNet-50" => resnet(images, &[3, 4, 6, 3], true),
        "ResNet-20" => resnet20(images),
        _ => mobilenet(images),
    }
}

/// One forward pass as networks are evaluated, or a forward and a reverse pass with the derivatives by all weights, from seeded images.
pub fn run(network: &Network, gradient: bool) {
    /// Asks for all derivatives and drops them.
    struct All;
    impl Hooks for All {}
    let shape = network.input_shapes().remove(0);
    let images = Tensor::new(shape.clone(), noise(shape.iter().product(), 7));
    let outputs = if gradient {
        network.gradient(vec![images], &[false], &mut |outputs| outputs.to_vec(), &mut All).0
    } else {
        fastest(|| network.forward(vec![images], &mut NoHooks))
    };
    assert!(outputs[0].data.iter().all(|x| x.is_finite()));
}

/// A network while it is built, and the layers it has.
struct Net {
    builder: Builder,
    layers: usize,
}

impl Net {
    fn new(images: usize, size: usize) -> (Net, ValueId) {
        let mut builder = Builder::default();
        let x = builder.input(vec![images, 3, size, size]);
        (Net { builder, layers: 0 }, x)
    }

    fn push(&mut self, operator: impl Operator + 'static, inputs: &[ValueId]) -> ValueId {
        self.builder.push(Arc::new(operator), "", inputs).expect("its shapes fit")[0]
    }

    /// A weight tensor; a row of it has about unit norm.
    fn weight(&mut self, shape: Vec<usize>) -> ValueId {
        self.layers += 1;
        let scale = (12.0 / shape[1..].iter().product::<usize>() as f32).sqrt();
        let data = noise(shape.iter().product(), self.layers as u64).into_iter().map(|x| x * scale).collect();
        self.builder.constant(Arc::new(Tensor::new(shape, data)), Some(self.layers - 1))
    }

    fn conv(&mut self, x: ValueId, outputs: usize, kernel: usize, stride: usize, groups: usize) -> ValueId {
        let channels = self.builder.shape(x)[1];
        let w = self.weight(vec![outputs, channels / groups, kernel, kernel]);
        let bias = Tensor::new([outputs], noise(outputs, 1000 + self.layers as u64));
        let bias = self.builder.constant(Arc::new(bias), None);
        let window = Window { stride: [stride; 2], pads: [kernel / 2; 4], ..Window::new([kernel; 2]) };
        self.push(Conv { window, groups }, &[x, w, bias])
    }

    fn relu(&mut self, x: ValueId) -> ValueId {
        self.push(Unary::Relu, &[x])
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.push(Binary::Add, &[a, b])
    }

    /// Mean over pixels and a matrix product.
    fn finish(mut self, x: ValueId, classes: usize) -> Network {
        let [images, channels, height, width] = *self.builder.shape(x) else { unreachable!("images") };
        let x = self.push(AveragePool { window: Window::new([height, width]), ceil: false, count_pads: false }, &[x]);
        let x = self.push(Reshape { shape: vec![images, channels] }, &[x]);
        let w = self.weight(vec![classes, channels]);
        let y = self.push(Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w]);
        self.builder.finish(&[y])
    }
}

/// He et al. 2015, for 224×224: blocks of two 3×3 convolutions, or of 1×1, 3×3, 1×1.
fn resnet(images: usize, blocks: &[usize; 4], bottleneck: bool) -> Network {
    let (mut net, x) = Net::new(images, 224);
    let x = net.conv(x, 64, 7, 2, 1);
    let x = net.relu(x);
    let window = Window { stride: [2; 2], pads: [1; 4], ..Window::new([3; 2]) };
    let mut x = net.push(MaxPool { window, ceil: false }, &[x]);
    for (stage, &count) in blocks.iter().enumerate() {
        let (width, expansion) = (64 << stage, if bottleneck { 4 } else { 1 });
        for block in 0..count {
            let stride = if block == 0 && stage > 0 { 2 } else { 1 };
            let shortcut = if block == 0 && (stage > 0 || bottleneck) { net.conv(x, width * expansion, 1, stride, 1) } else { x };
            let y = if bottleneck {
                let y = net.conv(x, width, 1, 1, 1);
                let y = net.relu(y);
                let y = net.conv(y, width, 3, stride, 1);
                let y = net.relu(y);
                net.conv(y, width * expansion, 1, 1, 1)
            } else {
                let y = net.conv(x, width, 3, stride, 1);
                let y = net.relu(y);
                net.conv(y, width, 3, 1, 1)
            };
            let y = net.add(y, shortcut);
            x = net.relu(y);
        }
    }
    net.finish(x, 1000)
}

/// He et al. 2015, for 32×32; shortcuts that change shape are 1×1 convolutions.
fn resnet20(images: usize) -> Network {
    let (mut net, x) = Net::new(images, 32);
    let x = net.conv(x, 16, 3, 1, 1);
    let mut x = net.relu(x);
    for stage in 0..3 {
        for block in 0..3 {
            let (width, first) = (16 << stage, block == 0 && stage > 0);
            let stride = if first { 2 } else { 1 };
            let shortcut = if first { net.conv(x, width, 1, stride, 1) } else { x };
            let y = net.conv(x, width, 3, stride, 1);
            let y = net.relu(y);
            let y = net.conv(y, width, 3, 1, 1);
            let y = net.add(y, shortcut);
            x = net.relu(y);
        }
    }
    net.finish(x, 10)
}

/// Sandler et al. 2018, for 224×224.
fn mobilenet(images: usize) -> Network {
    let (mut net, x) = Net::new(images, 224);
    let relu6 = || Unary::Clip { min: 0.0, max: 6.0 };
    let x = net.conv(x, 32, 3, 2, 1);
    let mut x = net.push(relu6(), &[x]);
    for (expansion, outputs, count, first) in
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    {
        for block in 0..count {
            let (stride, channels) = (if block == 0 { first } else { 1 }, net.builder.shape(x)[1]);
            let mut y = x;
            if expansion > 1 {
                y = net.conv(y, channels * expansion, 1, 1, 1);
                y = net.push(relu6(), &[y]);
            }
            y = net.conv(y, channels * expansion, 3, stride, channels * expansion);
            y = net.push(relu6(), &[y]);
            y = net.conv(y, outputs, 1, 1, 1);
            x = if stride == 1 && channels == outputs { net.add(y, x) } else { y };
        }
    }
    let x = net.conv(x, 1280, 1, 1, 1);
    let x = net.push(relu6(), &[x]);
    net.finish(x, 1000)
}
