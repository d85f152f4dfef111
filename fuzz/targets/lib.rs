//! What the targets share. Whatever the bytes, there is a value or an error of one sentence: no panic, no hang, no allocation that the file
//! is too short to ask for.

use std::rc::Rc;

use waterfill::{
    error::Error,
    graph::Runnable,
    io::{self, Model, source::BytesSource},
};

/// A file with this name and content.
pub fn file(name: &str, data: &[u8]) -> Rc<BytesSource> {
    Rc::new(BytesSource::new(name, data.to_vec()))
}

/// An error is one sentence or more, on one line.
pub fn one_sentence(error: &Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
}

/// Opens a model, reads every tensor, writes the file again, and makes a network of it where it is one.
pub fn model(name: &str, data: &[u8]) {
    match io::open(vec![file(name, data)]) {
        Err(error) => one_sentence(&error),
        Ok(model) => read(&model),
    }
}

fn read(model: &Model) {
    for index in 0..model.tensors.len() {
        match model.reader.read(index) {
            Ok(bytes) => assert_eq!(bytes.len(), model.tensors[index].bytes(), "{}", model.tensors[index].name),
            Err(error) => one_sentence(&error),
        }
    }
    if let Err(error) = io::skeleton::write(&model.skeleton, &*model.reader, &mut std::io::sink()) {
        one_sentence(&error);
    }
    let network = Runnable::new(model).and_then(|runnable| runnable.network(1, &[8, 8]));
    if let Err(error) = network {
        one_sentence(&error);
    }
}
