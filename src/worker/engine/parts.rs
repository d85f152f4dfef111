//! Files on their way to the page.

use js_sys::{Array, Uint8Array};

/// Collects what is written in JavaScript's memory, for a `Blob`, in parts of a few megabytes.
#[derive(Default)]
pub(super) struct Parts {
    parts: Array,
    part: Vec<u8>,
}

impl Parts {
    const PART: usize = 4 << 20;

    fn flush_part(&mut self) {
        if !self.part.is_empty() {
            self.parts.push(&Uint8Array::new_from_slice(&self.part));
            self.part.clear();
        }
    }

    pub(super) fn finish(mut self) -> Array {
        self.flush_part();
        self.parts
    }
}

impl std::io::Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.part.len() + bytes.len() > Self::PART {
            self.flush_part();
        }
        if bytes.len() > Self::PART {
            self.parts.push(&Uint8Array::new_from_slice(bytes));
        } else {
            self.part.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
