//! A few pictures of image-to-image networks, to be looked at: what went in, and what the full-precision and the compressed network made
//! of it.
//!
//! PSNR over all images is [`super::evaluate`]'s. These are some of the same images, run once more one at a time: an evaluation keeps no
//! outputs of compressed networks, and measured curves run many of them that nobody looks at.

use super::{
    evaluate::{Evaluator, Options},
    inputs::EncodedBatch,
    job::{Item, Job},
};
use crate::{
    error::Result,
    evaluate::{Layout, Output},
    graph::Runnable,
    nn::{Network, NoHooks, Tensor},
    report::{
        Channels,
        pictures::{PictureRange, Shown},
    },
};

/// Most pictures that are made.
pub const MOST: usize = 4;
/// Longest side of a picture, in pixels; of larger ones it is the middle.
pub const SIDE: usize = 256;

/// Shades of a picture, row after row: red, green, blue and opaqueness of every pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `4 · height · width` bytes.
    pub rgba: Vec<u8>,
}

/// What was made of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// What it is.
    pub shown: Shown,
    /// What went in, without the preprocessing's scale and normalization; none where that is no picture.
    pub input: Option<Pixels>,
    /// The full-precision network's.
    pub full: Pixels,
    /// The compressed network's.
    pub compressed: Pixels,
}

/// The middle of a picture, in the networks' own numbers.
#[derive(Debug, Clone, PartialEq)]
struct Middle {
    layout: Layout,
    values: Vec<f32>,
}

/// What a task made of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    input: Option<Middle>,
    full: Middle,
    compressed: Middle,
    /// Squared error of the whole picture.
    error: f64,
}

impl Middle {
    /// The middle of so many rows and pixels; half a pixel goes up and to the left.
    fn of(values: &[f32], layout: Layout, [height, width]: [usize; 2]) -> Middle {
        let middle = Layout { height, width, ..layout };
        let (top, left) = ((layout.height - height) / 2, (layout.width - width) / 2);
        let mut out = vec![0.0; middle.len()];
        for channel in 0..layout.channels {
            for y in 0..height {
                for x in 0..width {
                    out[middle.at(channel, y, x)] = values[layout.at(channel, top + y, left + x)];
                }
            }
        }
        Middle { layout: middle, values: out }
    }

    /// As it is shown. `bgr` says that blue comes first.
    fn pixels(&self, range: PictureRange, bgr: bool) -> Pixels {
        let Layout { channels, height, width, .. } = self.layout;
        let mut rgba = Vec::with_capacity(4 * height * width);
        for y in 0..height {
            for x in 0..width {
                let shade = |colour: usize| {
                    let channel = if bgr { 2 - colour } else { colour };
                    range.shade(self.values[self.layout.at(channel.min(channels - 1), y, x)])
                };
                // Of grey there is one channel, whichever is asked for.
                rgba.extend([shade(0), shade(1), shade(2), 255]);
            }
        }
        Pixels { height, width, rgba }
    }
}

/// How much is shown of an output, and of its input the same part, which has other sizes where the network enlarges or reduces.
fn shown_of(output: Layout, input: Option<Layout>) -> ([usize; 2], Option<[usize; 2]>) {
    let (height, width) = (output.height.min(SIDE), output.width.min(SIDE));
    let part = |whole: usize, shown: usize, of: usize| ((whole * shown + of / 2) / of).clamp(1, SIDE.min(whole));
    let input = input.map(|i| [part(i.height, height, output.height), part(i.width, width, output.width)]);
    ([height, width], input)
}

impl Evaluator {
    /// How the network's pictures lie; none for a network that gives no pictures.
    pub fn layout(&self) -> Option<Layout> {
        if let Output::Picture(layout) = self.output() { Some(layout) } else { None }
    }

    /// Images that pictures are made of, by their places among those that are run: evenly spaced.
    fn to_show(&self) -> Vec<usize> {
        let (all, count) = (self.images(), self.images().min(MOST));
        (0..count).map(|i| i * all / count).collect()
    }

    /// Whether the network gives pictures.
    pub fn gives_pictures(&self) -> bool {
        self.layout().is_some()
    }

    /// What making pictures costs, in images that a network is run on; 0 for a network that gives none.
    pub fn pictures_cost(&self) -> usize {
        if self.gives_pictures() { 2 * self.to_show().len() } else { 0 }
    }

    /// The network itself and a compressed one on a few images: an item per image. A network that gives no pictures has no items.
    ///
    /// # Errors
    /// A network that cannot be run.
    pub fn pictures_job<'a>(&'a self, compressed: &Runnable) -> Result<Job<'a, Drawn>> {
        let images = &self.images;
        let shown = if self.layout().is_some() { self.to_show() } else { Vec::new() };
        let batch = self.runnable.batch(&images.image, false, Options::default().memory, 1)?;
        let networks = [&self.runnable, compressed].map(|runnable| runnable.network(batch, &images.image));
        let [full, compressed] = networks;
        let (full, compressed) = (full?, compressed?);
        let input = <[usize; 3]>::try_from(&images.image[..]).ok().and_then(Layout::of);
        // By itself the shape may say otherwise.
        let input = input.filter(|layout| layout.last == images.preprocessing.channels_last);
        let items = shown.iter().map(|&i| Item { name: images.data.images.name(images.chosen[i]), cost: 1.0 }).collect();
        Ok(Job {
            stage: "pictures",
            items,
            prepare: Box::new(move |item| {
                let at = shown[item];
                let encoded = images.read(at..at + 1, batch)?;
                let (output, full, compressed) = (self.layout(), full.clone(), compressed.clone());
                let plain = plain(&images.preprocessing);
                Ok(Box::new(move || {
                    let output = output.expect("there are items only for pictures");
                    draw(&encoded, [&full, &compressed], (input, output), plain)
                }))
            }),
        })
    }

    /// Takes the results of [`Evaluator::pictures_job`]. `range` is that which all of the network's pictures were judged by.
    pub fn pictures(&self, results: &[Drawn], range: PictureRange) -> Vec<Picture> {
        let Some(layout) = self.layout() else { return Vec::new() };
        let bgr = layout.channels == 3 && self.images.preprocessing.channels == Channels::Bgr;
        // One for all inputs, as for all outputs.
        let values = results.iter().filter_map(|d| d.input.as_ref()).flat_map(|i| &i.values);
        let (least, greatest) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
        let inputs = PictureRange::of(least, greatest);
        let picture = |(at, d): (usize, &Drawn)| {
            let image = self.images.chosen[at];
            let psnr = range.psnr_db(d.error, layout.len());
            let size = |m: &Middle| [m.layout.height, m.layout.width];
            Picture {
                shown: Shown {
                    name: self.images.data.images.name(image),
                    image,
                    input: d.input.as_ref().map(size),
                    output: size(&d.full),
                    whole: [layout.height, layout.width],
                    psnr_db: Some(psnr).filter(|db| db.is_finite()),
                },
                input: d
                    .input
                    .as_ref()
                    .map(|i| i.pixels(inputs, i.layout.channels == 3 && self.images.preprocessing.channels == Channels::Bgr)),
                full: d.full.pixels(range, bgr),
                compressed: d.compressed.pixels(range, bgr),
            }
        };
        self.to_show().into_iter().zip(results).map(picture).collect()
    }
}

/// What undoes the normalization: factor and what is added, by channel.
fn plain(p: &crate::report::Preprocessing) -> [(f32, f32); 3] {
    let per = |list: &[f32], channel: usize| list.get(channel).or(list.first()).copied().unwrap_or_default();
    [0, 1, 2].map(|channel| (per(&p.std, channel), per(&p.mean, channel)))
}

/// Runs both networks on one image.
fn draw(encoded: &EncodedBatch, networks: [&Network; 2], layouts: (Option<Layout>, Layout), plain: [(f32, f32); 3]) -> Result<Drawn> {
    let tensor = encoded.decode()?;
    let (input, output) = layouts;
    let (size, input_size) = shown_of(output, input);
    let forward = |network: &Network, x: Tensor| network.forward(vec![x], &mut NoHooks).swap_remove(0).data;
    let [full, compressed] = networks.map(|network| forward(network, tensor.clone()));
    let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
    let error = full[..output.len()].iter().zip(&compressed).map(square).sum();
    let input = input.zip(input_size).map(|(layout, size)| {
        let mut middle = Middle::of(&tensor.data[..layout.len()], layout, size);
        for (channel, (factor, added)) in plain.iter().enumerate().take(layout.channels) {
            for y in 0..size[0] {
                for x in 0..size[1] {
                    let at = middle.layout.at(channel, y, x);
                    middle.values[at] = middle.values[at] * factor + added;
                }
            }
        }
        middle
    });
    Ok(Drawn { input, full: Middle::of(&full, output, size), compressed: Middle::of(&compressed, output, size), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_larger_is_cut_from_the_middle_and_the_input_with_it() {
        let layout = |height, width| Layout { channels: 1, height, width, last: false };
        assert_eq!(shown_of(layout(8, 300), Some(layout(8, 300))), ([8, 256], Some([8, 256])));
        // Twice and four times as large as the input; half as large.
        assert_eq!(shown_of(layout(600, 512), Some(layout(300, 256))), ([256, 256], Some([128, 128])));
        assert_eq!(shown_of(layout(32, 32), Some(layout(8, 8))), ([32, 32], Some([8, 8])));
        assert_eq!(shown_of(layout(300, 300), Some(layout(600, 600))), ([256, 256], Some([256, 256])));
        assert_eq!(shown_of(layout(4, 4), None), ([4, 4], None));

        let values: Vec<f32> = (0..20).map(|v| v as f32).collect();
        let middle = Middle::of(&values, layout(4, 5), [2, 2]);
        assert_eq!(middle.values, [6.0, 7.0, 11.0, 12.0]);
        let whole = Middle::of(&values, layout(4, 5), [4, 5]);
        assert_eq!(whole.values, values);
    }

    #[test]
    fn channels_become_red_green_and_blue() {
        let range = PictureRange::of(0.0, 1.0);
        let first =
            Middle { layout: Layout { channels: 3, height: 1, width: 2, last: false }, values: vec![1.0, 0.0, 0.0, 1.0, -1.0, 2.0] };
        let last = Middle { layout: Layout { last: true, ..first.layout }, values: vec![1.0, 0.0, -1.0, 0.0, 1.0, 2.0] };
        let (rgb, bgr) = ([255, 0, 0, 255, 0, 255, 255, 255], [0, 0, 255, 255, 255, 255, 0, 255]);
        assert_eq!([first.pixels(range, false).rgba, last.pixels(range, false).rgba], [rgb, rgb]);
        assert_eq!(first.pixels(range, true).rgba, bgr);
        let grey = Middle { layout: Layout { channels: 1, height: 1, width: 2, last: false }, values: vec![0.2, 1.0] };
        assert_eq!(grey.pixels(range, false).rgba, [51, 51, 51, 255, 255, 255, 255, 255]);
    }
}
