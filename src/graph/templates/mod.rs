//! Graphs for files that hold weights only, recognised by the names and shapes of their tensors.
//!
//! A template is a function that draws a network with a `Sketch`. Every tensor that it draws with must be there with the shape
//! that the layers before it ask for, and when the drawing is done no tensor may be left: drawing and recognising are one thing.
//!
//! | template | networks |
//! | --- | --- |
//! | `alexnet`, `vgg`, `resnet`, `densenet`, `mobilenet`, `squeezenet` | torchvision's, for 224×224 pixels |
//! | `cifar_resnet` | those of He et al. 2016 for CIFAR (32×32 pixels), named as in akamaster/pytorch_resnet_cifar10 |
//!
//! The number of classes is free. Names may have a common prefix (`module.`, `state_dict.model.`).

mod alexnet;
mod cifar_resnet;
mod densenet;
mod mobilenet;
mod resnet;
mod sketch;
mod squeezenet;
#[cfg(test)]
mod tests;
mod vgg;

use std::collections::HashMap;

use super::Graph;
use crate::{
    io::TensorInfo,
    report::{Channels, Preprocessing},
};
use sketch::{Sketch, Value};

/// A network that was recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognised {
    /// Its name: `ResNet-50 (torchvision)`.
    pub name: String,
    /// Its graph, for the standard size of its input; it refers to the tensors of the file by their names there.
    pub graph: Graph,
    /// Its standard preprocessing.
    pub preprocessing: Preprocessing,
}

/// Draws a network: its name and its output, or nothing when a tensor is missing or has another shape.
type Template = fn(&mut Sketch<'_>) -> Option<(String, Value)>;

/// All templates, with their preprocessing.
const TEMPLATES: [(Template, fn() -> Preprocessing); 7] = [
    (resnet::draw, imagenet),
    (cifar_resnet::draw, cifar),
    (vgg::draw, imagenet),
    (densenet::draw, imagenet),
    (mobilenet::draw, imagenet),
    (squeezenet::draw, imagenet),
    (alexnet::draw, imagenet),
];

/// Parts of a checkpoint (`model`, `optimizer`, …) that are looked at one by one.
const PARTS: usize = 8;

/// Recognises a `state_dict`. Nothing when no template has just these tensors.
///
/// Tensors called `num_batches_tracked` count as absent. Where all tensors together are no network, the parts of a checkpoint are
/// tried, by the first word of their names: its graph then refers to the tensors of one part.
pub fn recognise(tensors: &[TensorInfo]) -> Option<Recognised> {
    let all: Vec<&TensorInfo> = tensors.iter().collect();
    recognise_part(&all).or_else(|| {
        let mut parts: Vec<(&str, Vec<&TensorInfo>)> = Vec::new();
        for tensor in tensors {
            let Some((first, _)) = tensor.name.split_once('.') else { continue };
            match parts.iter().position(|(name, _)| *name == first) {
                Some(part) => parts[part].1.push(tensor),
                None if parts.len() < PARTS => parts.push((first, vec![tensor])),
                None => {}
            }
        }
        parts.iter().find_map(|(_, part)| recognise_part(part))
    })
}

fn recognise_part(tensors: &[&TensorInfo]) -> Option<Recognised> {
    let weights: Vec<&TensorInfo> = tensors.iter().copied().filter(|t| !t.name.ends_with("num_batches_tracked")).collect();
    let prefix = common_prefix(weights.iter().map(|t| t.name.as_str()));
    let mut by_name = HashMap::with_capacity(weights.len());
    for tensor in &weights {
        if !tensor.dtype.is_float() || by_name.insert(today(&tensor.name[prefix..]), *tensor).is_some() {
            return None;
        }
    }
    TEMPLATES.iter().find_map(|(draw, preprocessing)| {
        let mut sketch = Sketch::new(&by_name);
        let (name, output) = draw(&mut sketch)?;
        Some(Recognised { name, graph: sketch.finish(output)?, preprocessing: preprocessing() })
    })
}

/// Length of the longest prefix of all names that ends with a dot.
fn common_prefix<'a>(mut names: impl Iterator<Item = &'a str>) -> usize {
    let Some(first) = names.next() else { return 0 };
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let n = names.fold(first.len(), |n, name| n.min(common(first, name)));
    // All bytes before and including a dot are whole characters.
    first.as_bytes()[..n].iter().rposition(|&b| b == b'.').map_or(0, |dot| dot + 1)
}

/// DenseNet's names before 2019, `denselayer1.norm.1.weight`, as they are today: `denselayer1.norm1.weight`.
fn today(name: &str) -> String {
    match name.contains(".denselayer") {
        true => name.replace(".norm.", ".norm").replace(".conv.", ".conv"),
        false => name.to_string(),
    }
}

/// Values from 0 to 1, less ImageNet's mean, over its deviation.
fn normalized(origin: &str) -> Preprocessing {
    Preprocessing {
        resize: None,
        crop: None,
        channels: Channels::Rgb,
        scale: 1.0 / 255.0,
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        channels_last: false,
        origin: origin.into(),
    }
}

fn imagenet() -> Preprocessing {
    Preprocessing { resize: Some(256), crop: Some([224, 224]), ..normalized("standard of ImageNet networks") }
}

/// These networks were trained with ImageNet's mean and deviation.
fn cifar() -> Preprocessing {
    normalized("as these CIFAR-10 networks were trained")
}
