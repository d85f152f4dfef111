//! Windows of convolutions and poolings: kernel, stride, dilation, pads. Two spatial axes; one-dimensional operators have height 1.

use std::ops::Range;

/// A window that slides over two spatial axes (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Distance of neighbouring windows.
    pub stride: [usize; 2],
    /// Distance of neighbouring kernel positions.
    pub dilation: [usize; 2],
    /// Padding: top, left, bottom, right (`auto_pad` is resolved by whoever makes a window).
    pub pads: [usize; 4],
}

impl Window {
    /// A kernel with stride and dilation 1 and no padding.
    pub fn new(kernel: [usize; 2]) -> Window {
        Window { kernel, stride: [1, 1], dilation: [1, 1], pads: [0; 4] }
    }

    /// What the kernel spans on axis `i`: `(kernel − 1)·dilation + 1`.
    pub fn span(&self, i: usize) -> usize {
        (self.kernel[i] - 1) * self.dilation[i] + 1
    }

    /// How many whole windows lie on axis `i` of an input of this length, padding included. None when not even one does, and for
    /// numbers no window has (a kernel or stride of 0, sums beyond `usize`).
    pub fn positions(&self, i: usize, length: usize) -> Option<usize> {
        let padded = length.checked_add(self.pads[i])?.checked_add(self.pads[i + 2])?;
        let span = self.kernel[i].checked_sub(1)?.checked_mul(self.dilation[i])?.checked_add(1)?;
        Some(padded.checked_sub(span)?.checked_div(self.stride[i])? + 1)
    }

    /// Which of `windows` have kernel position `tap` inside an input of this length, and not in the padding.
    pub fn inside(&self, i: usize, tap: usize, windows: usize, length: usize) -> Range<usize> {
        let (stride, offset, pad) = (self.stride[i], tap * self.dilation[i], self.pads[i]);
        let end = (length + pad).saturating_sub(offset).div_ceil(stride).min(windows);
        let start = pad.saturating_sub(offset).div_ceil(stride).min(end);
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_whole_windows() {
        let window = Window { stride: [2, 1], pads: [1, 0, 1, 0], ..Window::new([3, 2]) };
        assert_eq!((window.positions(0, 7), window.positions(0, 8), window.positions(0, 0)), (Some(4), Some(4), None));
        assert_eq!((window.positions(1, 1), window.positions(1, 2)), (None, Some(1)));
        assert_eq!(Window { dilation: [usize::MAX, 1], ..window }.positions(0, 7), None);
        assert_eq!(Window { pads: [usize::MAX, 0, 1, 0], ..window }.positions(0, 7), None);
        assert_eq!(Window { stride: [0, 1], ..window }.positions(0, 7), None);
        assert_eq!(Window::new([0, 1]).positions(0, 7), None);
    }

    #[test]
    fn inside_is_what_trying_every_window_finds() {
        for code in 0usize..4 * 3 * 3 * 4 * 4 * 6 {
            let mut rest = code;
            let mut next = |n| {
                let digit = rest % n;
                rest /= n;
                digit
            };
            let (kernel, stride, dilation, before, after, length) = (1 + next(4), 1 + next(3), 1 + next(3), next(4), next(4), next(6));
            let window = Window { kernel: [kernel, 1], stride: [stride, 1], dilation: [dilation, 1], pads: [before, 0, after, 0] };
            let Some(windows) = window.positions(0, length) else { continue };
            for tap in 0..kernel {
                let fits = |w: &usize| (before..before + length).contains(&(w * stride + tap * dilation));
                let tried: Vec<usize> = (0..windows).filter(fits).collect();
                assert_eq!(window.inside(0, tap, windows, length).collect::<Vec<_>>(), tried, "{window:?} {length} {tap}");
            }
        }
    }
}
