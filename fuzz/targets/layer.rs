//! The body of a layer section, for a shape from the first bytes: decoded or refused, in both codings; what decodes, encodes to the same again.
#![no_main]

use waterfill::{
    container::layer,
    io::{LayerShape, Order},
};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[groups, outputs, inputs, rows, columns, order], body)) = data.split_first_chunk::<6>() else { return };
    let side = |v: u8, most: u8| usize::from(v % most) + 1;
    // Small ones: larger are slower, and no other code.
    let (rows, columns) = (side(rows, 3), side(columns, 3));
    let order = if order % 2 == 0 { Order::OutIn } else { Order::InOut };
    let (groups, outputs, inputs) = (side(groups, 2), side(outputs, 40), side(inputs, 40));
    let shape = LayerShape { groups, outputs, inputs, taps: rows * columns, columns, order };
    let Ok(read) = layer::read(body, &shape) else { return };
    let weights = layer::reconstruct(&read.code, &read.indices, &shape);
    assert_eq!(weights.len(), shape.weights());
    let again = layer::encode(&read.code, read.coding, &read.indices);
    let decoded = layer::decode(&again, &shape).expect("what was written can be read");
    assert!(decoded.iter().zip(&weights).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
});
