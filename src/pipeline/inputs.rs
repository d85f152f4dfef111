//! Images of a dataset, bound to what a network takes: chosen, read on the thread that owns the files, decoded and preprocessed by tasks.

use std::ops::Range;

use crate::{
    data::{self, Dataset, Encoded, preprocess},
    error::{Error, Result, bad},
    graph::Runnable,
    nn::Tensor,
    report::Preprocessing,
};

/// Chosen images, and how they become inputs.
#[derive(Clone)]
pub struct Inputs {
    /// The dataset they are of.
    pub data: Dataset,
    /// How images become inputs.
    pub preprocessing: Preprocessing,
    /// Shape of one input.
    pub image: Vec<usize>,
    /// Which images, rising.
    pub chosen: Vec<usize>,
}

/// Images as they were read.
pub struct EncodedBatch {
    file: String,
    images: Vec<Encoded>,
    preprocessing: Preprocessing,
    /// Shape of the tensor they become, batch axis first.
    shape: Vec<usize>,
}

impl Inputs {
    /// Chooses at most `limit` images, evenly spaced.
    ///
    /// # Errors
    /// No images; preprocessing that means nothing; images that do not become what the network takes.
    pub fn new(runnable: &Runnable, data: &Dataset, preprocessing: Preprocessing, limit: Option<usize>) -> Result<Inputs> {
        preprocess::check(&preprocessing).map_err(Error::Setting)?;
        let image = shape(runnable, data, &preprocessing, &first_image(data)?)?;
        let total = data.images.len();
        let count = limit.unwrap_or(total).clamp(1, total);
        let chosen: Vec<usize> = (0..count).map(|i| (i as u64 * total as u64 / count as u64) as usize).collect();
        Ok(Inputs { data: data.clone(), preprocessing, image, chosen })
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty()
    }

    /// What to tell of the choice.
    pub fn note(&self) -> Option<String> {
        let (count, total) = (self.len(), self.data.images.len());
        (count < total).then(|| format!("{count} of the {total} images of {} were run, evenly spaced.", self.data.summary.name))
    }

    /// Reads some of the chosen images, which become a batch of `size`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(&self, range: Range<usize>, size: usize) -> Result<EncodedBatch> {
        let images = self.chosen[range].iter().map(|&i| self.data.images.read(i)).collect::<Result<_>>()?;
        Ok(EncodedBatch { images, ..self.batch(size) })
    }

    /// A batch of `size` without images: what has to be known of one that was decoded before.
    pub fn batch(&self, size: usize) -> EncodedBatch {
        EncodedBatch {
            file: self.data.summary.name.clone(),
            images: Vec::new(),
            preprocessing: self.preprocessing.clone(),
            shape: std::iter::once(size).chain(self.image.iter().copied()).collect(),
        }
    }
}

impl EncodedBatch {
    /// Decodes and preprocesses; what is missing to a whole batch is the last image again.
    ///
    /// # Errors
    /// An image that cannot be decoded, or has another size than the first.
    pub fn decode(&self) -> Result<Tensor> {
        let (batch, size) = (self.shape[0], self.shape[1..].iter().product::<usize>());
        let mut values: Vec<f32> = Vec::with_capacity(batch * size);
        for encoded in &self.images {
            let name = encoded.name().to_string();
            let image = data::decode(encoded.clone())?;
            let one = preprocess::apply(&self.preprocessing, &image).map_err(|reason| misfit(&self.file, reason).tensor(&name))?;
            if one.len() != size {
                let (height, width) = (image.height, image.width);
                let reason = format!("it has {height}×{width} pixels, and does not become an input as large as the first image does");
                return Err(bad(&self.file, reason, "set a crop, so that all images become alike").tensor(&name));
            }
            values.extend(one);
        }
        while values.len() < batch * size && values.len() >= size {
            values.extend_from_within(values.len() - size..);
        }
        Ok(Tensor::new(self.shape.clone(), values))
    }
}

/// The first image of a dataset.
///
/// # Errors
/// There is none, or it cannot be decoded.
pub fn first_image(data: &Dataset) -> Result<data::Image> {
    if data.images.is_empty() {
        return Err(bad(&data.summary.name, "it has no images", "choose a file or folder with images"));
    }
    data::decode(data.images.read(0)?)
}

/// The shape that images get, checked against what the network takes.
///
/// # Errors
/// They do not fit.
pub fn shape(runnable: &Runnable, data: &Dataset, p: &Preprocessing, first: &data::Image) -> Result<Vec<usize>> {
    let shape = preprocess::shape(p, first).map_err(|reason| misfit(&data.summary.name, reason))?;
    let dims = runnable.image_dims();
    let text = |dims: &[Option<usize>]| dims.iter().map(|d| d.map_or("?".into(), |d| d.to_string())).collect::<Vec<_>>().join("×");
    let fits = dims.len() == shape.len() && dims.iter().zip(&shape).all(|(d, s)| d.is_none_or(|d| d == *s));
    if dims.is_empty() || fits {
        return Ok(shape.to_vec());
    }
    // Images in a row, for networks of dense layers.
    if let Some(fixed) = dims.iter().copied().collect::<Option<Vec<usize>>>()
        && fixed.len() == 1
        && fixed[0] == shape.iter().product::<usize>()
    {
        return Ok(fixed);
    }
    let has = text(&shape.map(Some));
    Err(misfit(&data.summary.name, format!("its images become {has}, but the network takes {}", text(&dims))))
}

fn misfit(name: &str, reason: String) -> Error {
    bad(name, reason, "change resize, crop or channels, or choose other images")
}
