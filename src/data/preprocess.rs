//! From an image to the input of a network: channels, resize, crop, scale, normalize, in the order in which torchvision does it, with
//! the numbers that Pillow gives (bilinear with antialiasing; 8-bit images are rounded after each pass).

use super::{Image, Pixels};
use crate::{
    limits,
    report::{Channels, Preprocessing},
};

/// Mean and deviation of ImageNet's training images, red, green, blue, from 0 to 1.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
/// Those of MNIST.
const MNIST: (f32, f32) = (0.1307, 0.3081);
/// Longest side that a resize or a crop may ask for.
const SIDE: usize = 1 << 14;
/// Networks of this size and above take the centre of larger images, 224 of 256, as it is usual for ImageNet.
const PHOTO: usize = 128;

/// Whether the numbers mean anything.
///
/// # Errors
/// A sentence.
pub fn check(p: &Preprocessing) -> Result<(), String> {
    let sides = p.resize.iter().chain(p.crop.iter().flatten());
    if let Some(side) = sides.clone().find(|&&side| side == 0 || side > SIDE) {
        return Err(format!("Preprocessing: images cannot be {side} pixels long; choose 1 to {SIDE}."));
    }
    let lists = [(&p.mean, "mean"), (&p.std, "standard deviation")];
    if let Some((list, name)) = lists.into_iter().find(|(list, _)| list.is_empty() || list.iter().any(|v| !v.is_finite())) {
        let given = if list.is_empty() { "no number" } else { "a number that is not finite" };
        return Err(format!("Preprocessing: the {name} is {given}; give one number, or one per channel."));
    }
    if p.std.contains(&0.0) || !p.scale.is_finite() {
        return Err("Preprocessing: scale and standard deviation must be finite, and the deviation not 0.".into());
    }
    Ok(())
}

/// Reads the JSON of a [`Preprocessing`], as it is in ONNX metadata under the key `preprocessing` or in a file of its own.
///
/// # Errors
/// A sentence.
pub fn parse(text: &str) -> Result<Preprocessing, String> {
    let p = serde_json::from_str(text).map_err(|e| format!("Preprocessing: it is not JSON as Waterfill writes it ({e})."))?;
    check(&p).map(|()| p)
}

/// Shape of the input that [`apply`] makes of an image: `[C, H, W]`, or `[H, W, C]`.
///
/// # Errors
/// A clause, when the image is too small for the crop or has channels that cannot be converted.
pub fn shape(p: &Preprocessing, image: &Image) -> Result<[usize; 3], String> {
    let channels = match (p.channels, image.channels) {
        (_, 0) => return Err("its images have no channels".into()),
        (Channels::Grey, 1 | 3 | 4) => 1,
        (Channels::Grey, n) | (Channels::Bgr, n @ 2 | n @ 5..) => {
            return Err(format!("its images have {n} channels, which are no colours"));
        }
        (Channels::Rgb | Channels::Bgr, 1 | 3 | 4) => 3,
        // Not colours, but it may be what the network takes.
        (Channels::Rgb, n) => n,
    };
    for list in [&p.mean, &p.std] {
        if list.len() != 1 && list.len() != channels {
            return Err(format!("its images become {channels} channels, but {} values are given to normalize them", list.len()));
        }
    }
    let [h, w] = resized(p, image)?;
    let [height, width] = p.crop.unwrap_or([h, w]);
    if height > h || width > w {
        return Err(format!("a crop of {height}×{width} is larger than its images of {h}×{w}"));
    }
    Ok(if p.channels_last { [height, width, channels] } else { [channels, height, width] })
}

/// Height and width after the resize: the longer side is rounded down.
fn resized(p: &Preprocessing, image: &Image) -> Result<[usize; 2], String> {
    let (h, w) = (image.height, image.width);
    if h == 0 || w == 0 {
        return Err("its images are empty".into());
    }
    let Some(side) = p.resize else { return Ok([h, w]) };
    let long = |long: usize, short: usize| (side as u64 * long as u64 / short as u64) as usize;
    let [height, width] = if w <= h { [long(h, w), side] } else { [side, long(w, h)] };
    match limits::element_count(&[height, width, image.channels.max(3)]) {
        Some(_) => Ok([height, width]),
        None => Err(format!("an image of {h}×{w} would become {height}×{width} pixels")),
    }
}

/// Makes the input of a network: `C×H×W` values (or `H×W×C`, as the preprocessing says). Colour becomes grey by the weights of ITU-R
/// BT.601; grey becomes colour by repeating it; a fourth channel, transparency, is dropped.
///
/// # Errors
/// Those of [`shape`].
pub fn apply(p: &Preprocessing, image: &Image) -> Result<Vec<f32>, String> {
    let shape = shape(p, image)?;
    let [h, w] = resized(p, image)?;
    let [height, width, channels] = if p.channels_last { shape } else { [shape[1], shape[2], shape[0]] };
    let (mut values, round) = match &image.pixels {
        Pixels::U8(v) => (v.iter().map(|&v| f32::from(v)).collect(), true),
        Pixels::F32(v) => (v.clone(), false),
    };
    values = convert(values, image.channels, channels, round);
    if w != image.width {
        values = resize(&values, [image.height, image.width, channels], w, round);
    }
    if h != image.height {
        // Rows are columns of a picture whose pixels are whole rows.
        values = resize(&values, [1, image.height, w * channels], h, round);
    }
    // Half a pixel goes to the even side, as torchvision does.
    let start = |whole: usize, part: usize| ((whole - part) as f64 / 2.0).round_ties_even() as usize;
    let (top, left) = (start(h, height), start(w, width));
    let per = |list: &[f32], c: usize| if list.len() == 1 { list[0] } else { list[c] };
    let mut out = vec![0.0; height * width * channels];
    for c in 0..channels {
        let from = if p.channels == Channels::Bgr { channels - 1 - c } else { c };
        let (mean, std) = (per(&p.mean, c), per(&p.std, c));
        for y in 0..height {
            for x in 0..width {
                let v = values[((top + y) * w + left + x) * channels + from] * p.scale;
                let at = if p.channels_last { (y * width + x) * channels + c } else { (c * height + y) * width + x };
                out[at] = (v - mean) / std;
            }
        }
    }
    Ok(out)
}

fn convert(values: Vec<f32>, from: usize, to: usize, round: bool) -> Vec<f32> {
    match (from, to) {
        (1, 3) => values.into_iter().flat_map(|v| [v; 3]).collect(),
        (4, 3) => values.chunks_exact(4).flat_map(|v| [v[0], v[1], v[2]]).collect(),
        (3 | 4, 1) => {
            let grey = |v: &[f32]| match round {
                // Pillow's fixed-point weights.
                true => ((v[0] as u32 * 19595 + v[1] as u32 * 38470 + v[2] as u32 * 7471 + 0x8000) >> 16) as f32,
                false => 0.299 * v[0] + 0.587 * v[1] + 0.114 * v[2],
            };
            values.chunks_exact(from).map(grey).collect()
        }
        _ => values,
    }
}

/// Resizes the rows of a picture to `to` pixels: every output is the mean of the inputs below a triangle, as wide as two output
/// pixels or, when enlarging, two input pixels.
fn resize(values: &[f32], [height, width, channels]: [usize; 3], to: usize, round: bool) -> Vec<f32> {
    let scale = width as f64 / to as f64;
    let support = scale.max(1.0);
    let taps: Vec<(usize, Vec<f64>)> = (0..to)
        .map(|x| {
            let centre = (x as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(width);
            let weights: Vec<f64> = (first..end).map(|i| (1.0 - ((i as f64 - centre + 0.5) / support).abs()).max(0.0)).collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.into_iter().map(|w| w / sum).collect())
        })
        .collect();
    let mut out = Vec::with_capacity(height * to * channels);
    let mut sums = vec![0f64; channels];
    for row in values.chunks_exact((width * channels).max(1)) {
        for (first, weights) in &taps {
            sums.fill(0.0);
            for (weight, pixel) in weights.iter().zip(row[first * channels..].chunks_exact(channels)) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &v)| *sum += weight * f64::from(v));
            }
            out.extend(sums.iter().map(|&v| if round { (v + 0.5).floor().clamp(0.0, 255.0) as f32 } else { v as f32 }));
        }
    }
    out
}

/// What is likely for a network with this input (without the batch axis), when nothing better is known.
pub fn guess(image_dims: &[Option<usize>], first: Option<&Image>) -> Preprocessing {
    let is_colour = |d: Option<usize>| matches!(d, Some(1 | 3));
    let (dims, channels_last) = match *image_dims {
        [h, w, c] if is_colour(c) && !is_colour(h) => ([c, h, w], true),
        [c, h, w] => ([c, h, w], false),
        _ => ([None; 3], false),
    };
    let grey = match (dims[0], first) {
        (Some(channels), _) => channels == 1,
        (None, Some(image)) => image.channels == 1,
        (None, None) => false,
    };
    let (values, range) = first.map_or((Values::Bytes, ""), values_of);
    let side = dims[1].or(first.map(|i| i.height));
    let (mean, std, origin) = match (grey, values) {
        (_, Values::Normalized) => (vec![0.0], vec![1.0], "the images are normalized already"),
        (true, _) if side == Some(28) => (vec![MNIST.0], vec![MNIST.1], "standard of MNIST networks"),
        (true, _) => (vec![0.0], vec![1.0], "usual for networks of one channel"),
        (false, _) if dims[0].or(first.map(|i| i.channels)).is_some_and(|c| !matches!(c, 1 | 3 | 4)) => {
            (vec![0.0], vec![1.0], "nothing is usual for images of so many channels")
        }
        (false, _) => (IMAGENET.0.to_vec(), IMAGENET.1.to_vec(), "standard of ImageNet networks"),
    };
    let mut p = Preprocessing {
        resize: None,
        crop: None,
        channels: if grey { Channels::Grey } else { Channels::Rgb },
        scale: if values == Values::Bytes { 1.0 / 255.0 } else { 1.0 },
        mean,
        std,
        channels_last,
        origin: format!("{origin}{range}"),
    };
    if let (Some(height), Some(width), Some(image)) = (dims[1], dims[2], first)
        && [height, width] != [image.height, image.width]
        && image.height > 0
        && image.width > 0
    {
        // The shorter side, so that both sides cover the crop.
        let short = image.height.min(image.width) as u64;
        let cover = |length: usize, of: usize| (length as u64 * short).div_ceil(of as u64) as usize;
        let mut side = cover(height, image.height).max(cover(width, image.width));
        if height >= PHOTO && width >= PHOTO && image.height > height && image.width > width {
            side = (side as f64 * 256.0 / 224.0).round() as usize;
        }
        (p.resize, p.crop) = (Some(side), Some([height, width]));
    }
    p
}

#[derive(Clone, Copy, PartialEq)]
enum Values {
    Bytes,
    Unit,
    Normalized,
}

/// What the values of an image look like, and a clause if that is no byte.
fn values_of(image: &Image) -> (Values, &'static str) {
    let Pixels::F32(values) = &image.pixels else { return (Values::Bytes, "") };
    let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), &v| (low.min(v), high.max(v)));
    match (low < -1e-3, high <= 1.001) {
        (true, _) => (Values::Normalized, ""),
        (false, true) => (Values::Unit, ", for images from 0 to 1"),
        (false, false) => (Values::Bytes, ""),
    }
}

/// The same without normalization: for networks from images to images.
pub fn plain(p: Preprocessing, first: &Image) -> Preprocessing {
    let (values, _) = values_of(first);
    let origin = "usual for networks from images to images".into();
    let scale = if values == Values::Bytes { 1.0 / 255.0 } else { 1.0 };
    Preprocessing { scale, mean: vec![0.0], std: vec![1.0], origin, ..p }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plainly() -> Preprocessing {
        Preprocessing {
            resize: None,
            crop: None,
            channels: Channels::Rgb,
            scale: 1.0,
            mean: vec![0.0],
            std: vec![1.0],
            channels_last: true,
            origin: String::new(),
        }
    }

    fn image(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Image {
        assert_eq!(pixels.len(), height * width * channels);
        Image { height, width, channels, pixels: Pixels::U8(pixels) }
    }

    /// A picture that `tests/fixtures/data/make.py` makes too.
    fn pattern(height: usize, width: usize) -> Image {
        let value = |y: usize, x: usize, c: usize| ((y * 31 + x * 17 + c * 73 + y * x * 5) % 256) as u8;
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| value(y, x, c))));
        image(height, width, 3, pixels.collect())
    }

    fn dims(values: [usize; 3]) -> [Option<usize>; 3] {
        values.map(Some)
    }

    #[test]
    fn crops_at_the_even_half() {
        let row = |n: usize| image(1, n, 1, (0..n as u8).collect());
        let crop = |n, to| {
            let p = Preprocessing { crop: Some([1, to]), channels: Channels::Grey, ..plainly() };
            apply(&p, &row(n)).unwrap()[0]
        };
        // Python: round(0.5) = 0, round(1.5) = 2, round(2.5) = 2.
        assert_eq!([crop(3, 2), crop(5, 2), crop(7, 2), crop(6, 2)], [0.0, 2.0, 2.0, 2.0]);
        let p = Preprocessing { crop: Some([1, 9]), ..plainly() };
        assert!(apply(&p, &row(3)).unwrap_err().contains("larger than its images of 1×3"));
    }

    #[test]
    fn channels_scale_and_layout() {
        let one = image(1, 2, 3, vec![10, 20, 30, 40, 50, 60]);
        let p = Preprocessing { channels: Channels::Bgr, channels_last: false, ..plainly() };
        assert_eq!(apply(&p, &one).unwrap(), [30.0, 60.0, 20.0, 50.0, 10.0, 40.0]);
        let p = Preprocessing { scale: 0.5, mean: vec![1.0, 2.0, 3.0], std: vec![2.0], ..plainly() };
        assert_eq!(apply(&p, &one).unwrap(), [2.0, 4.0, 6.0, 9.5, 11.5, 13.5]);
        let p = Preprocessing { channels: Channels::Grey, ..plainly() };
        // Pillow: Image.fromarray(…).convert("L").
        assert_eq!(apply(&p, &one).unwrap(), [18.0, 48.0]);
        assert_eq!(apply(&plainly(), &image(1, 1, 1, vec![7])).unwrap(), [7.0; 3]);
        assert_eq!(apply(&plainly(), &image(1, 1, 4, vec![7, 8, 9, 0])).unwrap(), [7.0, 8.0, 9.0]);
        assert!(apply(&Preprocessing { mean: vec![0.0; 2], ..plainly() }, &one).is_err());
    }

    proptest! {
        /// Whatever the sizes: the shape is what was promised, a constant stays constant, the range is kept, and a mirror image
        /// gives the mirrored result.
        #[test]
        fn resizing_keeps_constants_range_and_symmetry(h in 1usize..20, w in 1usize..20, side in 1usize..30, value in any::<u8>(), seed in any::<u64>()) {
            let p = Preprocessing { resize: Some(side), channels: Channels::Grey, ..plainly() };
            let constant = image(h, w, 1, vec![value; h * w]);
            let out = apply(&p, &constant).unwrap();
            let [height, width, _] = shape(&p, &constant).unwrap();
            prop_assert_eq!(height.min(width), side);
            prop_assert_eq!(out, vec![f32::from(value); height * width]);
            let noise = crate::testing::noise(h * w, seed);
            let float = |values: Vec<f32>| Image { height: h, width: w, channels: 1, pixels: Pixels::F32(values) };
            let out = apply(&p, &float(noise.clone())).unwrap();
            prop_assert!(out.iter().all(|v| v.abs() <= 0.5));
            let mirrored: Vec<f32> = noise.chunks(w).flat_map(|row| row.iter().rev().copied()).collect();
            let back: Vec<f32> = apply(&p, &float(mirrored)).unwrap().chunks(width).flat_map(|row| row.iter().rev().copied()).collect();
            prop_assert!(out.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn guesses() {
        let bytes = |h, w, c| image(h, w, c, vec![0; h * w * c]);
        let g = guess(&dims([3, 32, 32]), Some(&bytes(32, 32, 3)));
        assert_eq!((g.resize, g.crop, g.scale, g.mean), (None, None, 1.0 / 255.0, vec![0.485, 0.456, 0.406]));
        let g = guess(&dims([1, 28, 28]), Some(&bytes(28, 28, 1)));
        assert_eq!((g.channels, g.mean, g.std), (Channels::Grey, vec![0.1307], vec![0.3081]));
        let g = guess(&dims([3, 224, 224]), Some(&bytes(500, 375, 3)));
        assert_eq!((g.resize, g.crop), (Some(256), Some([224, 224])));
        let g = guess(&dims([3, 224, 224]), Some(&bytes(32, 32, 3)));
        assert_eq!((g.resize, g.crop), (Some(224), Some([224, 224])));
        let g = guess(&dims([1, 8, 8]), Some(&bytes(8, 8, 1)));
        assert_eq!((g.resize, g.mean, g.std), (None, vec![0.0], vec![1.0]));
        let g = guess(&[None, Some(48), Some(64), Some(3)][1..], Some(&bytes(100, 100, 3)));
        assert!(g.channels_last);
        assert_eq!((g.resize, g.crop), (Some(64), Some([48, 64])));
        let g = guess(&[Some(3), None, None], Some(&bytes(500, 375, 3)));
        assert_eq!((g.resize, g.crop), (None, None));
        let float = |v: f32| Image { height: 1, width: 2, channels: 3, pixels: Pixels::F32(vec![v, 0.5, 0.1, 0.0, 0.3, 0.9]) };
        let g = guess(&[Some(3), None, None], Some(&float(1.0)));
        assert_eq!((g.scale, g.mean.len()), (1.0, 3));
        let g = guess(&[Some(3), None, None], Some(&float(-1.7)));
        assert_eq!((g.scale, g.mean, g.std), (1.0, vec![0.0], vec![1.0]));
        assert_eq!(guess(&[Some(3), None, None], Some(&float(200.0))).scale, 1.0 / 255.0);
        assert_eq!(plain(guess(&[Some(3), None, None], Some(&float(200.0))), &float(200.0)).mean, [0.0]);
        // Whatever is guessed can be applied, and gives what the network takes.
        for (net, h, w) in [([3, 224, 224], 300, 231), ([3, 299, 299], 1000, 301), ([3, 50, 100], 33, 20), ([1, 17, 5], 3, 200)] {
            let first = pattern(h, w);
            let g = guess(&dims(net), Some(&first));
            assert_eq!(shape(&g, &first), Ok(net));
            assert_eq!(apply(&g, &first).unwrap().len(), net.iter().product::<usize>());
        }
    }

    #[test]
    fn numbers_without_meaning_are_refused() {
        assert!(check(&plainly()).is_ok());
        for p in [
            Preprocessing { resize: Some(0), ..plainly() },
            Preprocessing { crop: Some([5, 1 << 20]), ..plainly() },
            Preprocessing { std: vec![0.0], ..plainly() },
            Preprocessing { mean: Vec::new(), ..plainly() },
            Preprocessing { scale: f32::NAN, ..plainly() },
        ] {
            assert!(check(&p).unwrap_err().ends_with('.'));
        }
        assert!(parse("{}").is_err());
        assert_eq!(parse(&serde_json::to_string(&plainly()).unwrap()), Ok(plainly()));
        let long = Preprocessing { resize: Some(SIDE), ..plainly() };
        assert!(apply(&long, &image(1, 60_000, 1, vec![0; 60_000])).is_err());
    }
}
