//! Zip archives, the shell of `.npz` and PyTorch files: the directory is checked as a whole before anything is inflated.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::Source;
use super::source::{Cached, Cursor, from_io};
use crate::error::{FETCH_AGAIN, Result, bad};
use crate::limits;

/// A member, as the directory lists it.
pub(crate) struct Entry {
    /// Its path in the archive.
    pub name: String,
    /// Whether it is deflated; otherwise it is stored as it is.
    pub deflated: bool,
    /// Its size once inflated.
    pub size: u64,
    /// Where its data begin in the file.
    pub offset: u64,
}

/// An open archive.
pub(crate) struct Archive {
    file: String,
    archive: RefCell<ZipArchive<Cursor>>,
    pub entries: Vec<Entry>,
}

impl Archive {
    /// Reads the directory. Errors: damage, encryption, unknown compression, duplicate names, sizes no file can have.
    pub(crate) fn open(source: Rc<dyn Source>) -> Result<Archive> {
        let file = source.name().to_string();
        let total = source.len();
        let mut archive = ZipArchive::new(Cursor::new(Rc::new(Cached::new(source)))).map_err(|e| failed(&file, e))?;
        if archive.has_duplicate_names() {
            return Err(bad(file, "two of its members have the same name", "save it again with unique names"));
        }
        // A PyTorch file has some members besides its tensors.
        if archive.len() > limits::TENSORS + 1024 {
            return Err(bad(file, format!("it has {} members, more than {}", archive.len(), limits::TENSORS), "split it"));
        }
        let mut entries = Vec::with_capacity(archive.len());
        for index in 0..archive.len() {
            let member = archive.by_index_raw(index).map_err(|e| failed(&file, e))?;
            let name = member.name().map_err(|e| failed(&file, e))?.into_owned();
            let refuse = |reason: String, advice: &str| Err(bad(&file, reason, advice).tensor(&name));
            if name.len() > limits::NAME {
                return refuse(format!("its name has {} bytes", name.len()), "save it again with shorter names");
            }
            if member.encrypted() {
                return refuse("it is encrypted".into(), "save it again without a password");
            }
            let deflated = match member.compression() {
                CompressionMethod::Stored => false,
                CompressionMethod::Deflated => true,
                other => return refuse(format!("its compression ({other}) is not supported"), "save it again with or without deflate"),
            };
            let (size, packed) = (member.size(), member.compressed_size());
            let Some(offset) = member.data_start() else { return refuse("it has no data".into(), FETCH_AGAIN) };
            if offset.checked_add(packed).is_none_or(|end| end > total) {
                return refuse(format!("it claims {packed} bytes at offset {offset} of a file of {total}"), FETCH_AGAIN);
            }
            if !deflated && size != packed {
                return refuse(format!("it is not compressed, but claims {size} bytes in {packed}"), FETCH_AGAIN);
            }
            if deflated && size / limits::INFLATION > packed {
                return refuse(format!("it claims to inflate {packed} bytes to {size}, more than any data can"), FETCH_AGAIN);
            }
            entries.push(Entry { name, deflated, size, offset });
        }
        Ok(Archive { file, archive: RefCell::new(archive), entries })
    }

    /// Reads `len` bytes from `offset` of member `index`, inflating no more than that. The archive's checksum is verified when
    /// the range ends where the member ends.
    pub(crate) fn read(&self, index: usize, offset: u64, len: usize) -> Result<Vec<u8>> {
        let Some(entry) = self.entries.get(index) else {
            return Err(bad(&self.file, format!("it has no member {index}"), FETCH_AGAIN));
        };
        let end = offset.checked_add(len as u64).filter(|&end| end <= entry.size);
        let Some(end) = end else {
            let reason = format!("it has {} bytes, but {len} at offset {offset} are needed", entry.size);
            return Err(bad(&self.file, reason, FETCH_AGAIN).tensor(&entry.name));
        };
        let mut archive = self.archive.borrow_mut();
        let mut member = archive.by_index(index).map_err(|e| failed(&self.file, e).tensor(&entry.name))?;
        let damaged = |e| from_io(&self.file, "it is damaged", e).tensor(&entry.name);
        std::io::copy(&mut (&mut member).take(offset), &mut std::io::sink()).map_err(damaged)?;
        // Grows with what is there, not with what is claimed.
        let mut bytes = Vec::with_capacity(len.min(1 << 20));
        (&mut member).take(len as u64).read_to_end(&mut bytes).map_err(damaged)?;
        if end == entry.size && member.read(&mut [0]).map_err(damaged)? != 0 || bytes.len() != len {
            return Err(bad(&self.file, format!("it does not have the {} bytes it claims", entry.size), FETCH_AGAIN).tensor(&entry.name));
        }
        Ok(bytes)
    }

    /// Reads a member that stays in the skeleton. `kept` counts the bytes that already do.
    pub(crate) fn keep(&self, index: usize, kept: &mut u64) -> Result<Vec<u8>> {
        let entry = &self.entries[index];
        *kept = kept.saturating_add(entry.size);
        if *kept > limits::HEADER {
            let reason = format!("its members other than tensors have more than {} bytes", limits::HEADER);
            return Err(bad(&self.file, reason, "remove them").tensor(&entry.name));
        }
        self.read(index, 0, entry.size as usize)
    }
}

fn failed(file: &str, e: zip::result::ZipError) -> crate::error::Error {
    match e {
        zip::result::ZipError::Io(e) => from_io(file, "its zip directory is damaged", e),
        other => bad(file, format!("its zip directory is damaged ({other})"), FETCH_AGAIN),
    }
}
