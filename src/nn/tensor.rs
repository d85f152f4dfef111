//! Dense arrays of `f32`.

/// A dense array in C order: the last axis runs fastest. A scalar has shape `[]` and one element.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensor {
    /// Length of every axis.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of these elements.
    ///
    /// # Panics
    /// When there are not as many as the shape says.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of a tensor {shape:?}");
        Tensor { shape, data }
    }

    /// Zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        Tensor { data: vec![0.0; shape.iter().product()], shape }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same elements in another shape.
    ///
    /// # Panics
    /// When the number of elements differs.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Tensor {
        Tensor::new(shape, self.data)
    }

    /// Adds another tensor of the same shape.
    pub fn add(&mut self, other: &Tensor) {
        assert_eq!(self.shape, other.shape);
        self.data.iter_mut().zip(&other.data).for_each(|(a, b)| *a += b);
    }
}
