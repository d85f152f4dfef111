//! Where bytes come from: a path, a browser's `File`, a buffer. Nothing here reads more than it is asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use super::Source;
use crate::error::{Error, FETCH_AGAIN, Result, bad};

/// The range `offset .. offset + len`, if it lies inside of a file of `total` bytes.
pub(crate) fn inside(name: &str, total: u64, offset: u64, len: u64) -> Result<std::ops::Range<u64>> {
    match offset.checked_add(len) {
        Some(end) if end <= total => Ok(offset..end),
        _ => Err(bad(name, format!("it ends after {total} bytes, but {len} bytes at offset {offset} are needed"), FETCH_AGAIN)),
    }
}

/// Bytes in memory.
pub struct BytesSource {
    name: String,
    bytes: Rc<[u8]>,
}

impl BytesSource {
    /// A source with this file name and content.
    pub fn new(name: impl Into<String>, bytes: impl Into<Rc<[u8]>>) -> BytesSource {
        BytesSource { name: name.into(), bytes: bytes.into() }
    }
}

impl Source for BytesSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = inside(&self.name, self.len(), offset, buf.len() as u64)?;
        buf.copy_from_slice(&self.bytes[range.start as usize..range.end as usize]);
        Ok(())
    }
}

/// A file on disk, read in place.
#[cfg(not(target_arch = "wasm32"))]
pub struct PathSource {
    name: String,
    file: RefCell<std::fs::File>,
    len: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl PathSource {
    /// Opens the file at `path`. An error when it does not exist, cannot be read, or is no regular file.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<PathSource> {
        let path = path.as_ref();
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy()).into_owned();
        let fail = |e: io::Error| bad(&name, format!("it cannot be opened ({e})"), "check the path and its permissions");
        let meta = std::fs::metadata(path).map_err(fail)?;
        if !meta.is_file() {
            return Err(bad(&name, "it is not a file", "name a model file"));
        }
        let file = std::fs::File::open(path).map_err(fail)?;
        Ok(PathSource { name, file: RefCell::new(file), len: meta.len() })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Source for PathSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        inside(&self.name, self.len, offset, buf.len() as u64)?;
        #[cfg(unix)]
        let done = std::os::unix::fs::FileExt::read_exact_at(&*self.file.borrow(), buf, offset);
        #[cfg(not(unix))]
        let done = {
            use io::{Read, Seek};
            let mut file = self.file.borrow_mut();
            file.seek(io::SeekFrom::Start(offset)).and_then(|_| file.read_exact(buf))
        };
        done.map_err(|e| bad(&self.name, format!("reading {} bytes at offset {offset} failed ({e})", buf.len()), "check the disk"))
    }
}

/// A file on disk that is opened anew for every read: for folders of more files than may be open at once.
#[cfg(not(target_arch = "wasm32"))]
pub struct FolderSource {
    path: std::path::PathBuf,
    name: String,
    len: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl FolderSource {
    /// Looks the file up. An error when it does not exist or is no regular file.
    pub fn new(path: impl AsRef<std::path::Path>) -> Result<FolderSource> {
        let open = PathSource::open(&path)?;
        Ok(FolderSource { path: path.as_ref().to_path_buf(), name: open.name, len: open.len })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Source for FolderSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        PathSource::open(&self.path)?.read_at(offset, buf)
    }
}

/// A `File` of the browser, read slice by slice. Only in a worker: `FileReaderSync` does not exist elsewhere.
#[cfg(all(target_arch = "wasm32", feature = "web"))]
pub struct BlobSource {
    name: String,
    blob: web_sys::Blob,
    reader: web_sys::FileReaderSync,
    len: u64,
}

#[cfg(all(target_arch = "wasm32", feature = "web"))]
impl BlobSource {
    /// Wraps a `File`. An error outside of a worker.
    pub fn new(file: web_sys::File) -> Result<BlobSource> {
        let name = file.name();
        let len = file.size() as u64;
        let reader = web_sys::FileReaderSync::new()
            .map_err(|_| bad(&name, "this browser cannot read files in a worker", "use a current browser"))?;
        Ok(BlobSource { name, blob: file.into(), reader, len })
    }
}

#[cfg(all(target_arch = "wasm32", feature = "web"))]
impl Source for BlobSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = inside(&self.name, self.len, offset, buf.len() as u64)?;
        // The browser answers with an exception when the file was changed or removed after it was chosen.
        let fail = |_| bad(&self.name, "the browser could not read it: it may have been moved or changed", "choose the file again");
        let slice = self.blob.slice_with_f64_and_f64(range.start as f64, range.end as f64).map_err(fail)?;
        let buffer = self.reader.read_as_array_buffer(&slice).map_err(fail)?;
        let bytes = js_sys::Uint8Array::new(&buffer);
        if bytes.length() as usize != buf.len() {
            return Err(bad(&self.name, "the browser returned fewer bytes than the file had", "choose the file again"));
        }
        bytes.copy_to(buf);
        Ok(())
    }
}

/// A source behind a cache of pages, so that parsers may read a few bytes at a time, and come back to headers they have seen.
pub(crate) struct Cached {
    source: Rc<dyn Source>,
    pages: RefCell<Pages>,
}

/// Pages by their offset.
#[derive(Default)]
struct Pages {
    all: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
    /// Where the page lies that was read last, and its end.
    last: (u64, u64),
}

impl Pages {
    /// The bytes from `range.start` on, if one page has the whole range.
    fn get(&self, range: &Range<u64>) -> Option<&[u8]> {
        let (start, page) = self.all.range(..=range.start).next_back()?;
        page.get((range.start - start) as usize..(range.end - start) as usize)
    }
}

impl Cached {
    /// A page after a jump: the next header, and little of the weights that may follow it.
    const SMALL: u64 = 4 << 10;
    /// A page in the course of reading on; a browser's `File` gives it in well under a millisecond.
    const PAGE: u64 = 64 << 10;
    /// Most bytes of pages that are kept.
    const KEEP: u64 = 4 << 20;

    pub(crate) fn new(source: Rc<dyn Source>) -> Cached {
        Cached { source, pages: RefCell::default() }
    }
}

impl Source for Cached {
    fn name(&self) -> &str {
        self.source.name()
    }
    fn len(&self) -> u64 {
        self.source.len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let range = inside(self.name(), self.len(), offset, buf.len() as u64)?;
        if buf.len() as u64 > Self::PAGE / 2 {
            return self.source.read_at(offset, buf);
        }
        let mut pages = self.pages.borrow_mut();
        if let Some(bytes) = pages.get(&range) {
            buf.copy_from_slice(bytes);
            return Ok(());
        }
        let held = pages.last.1 - pages.last.0;
        let reads_on = held > 0 && (pages.last.0..=pages.last.1).contains(&offset);
        let size = if reads_on { (2 * held).clamp(Self::SMALL, Self::PAGE) } else { Self::SMALL };
        let mut fresh = vec![0; size.max(buf.len() as u64).min(self.len() - offset) as usize];
        self.source.read_at(offset, &mut fresh)?;
        buf.copy_from_slice(&fresh[..buf.len()]);
        if pages.bytes > Self::KEEP {
            *pages = Pages::default();
        }
        let length = fresh.len() as u64;
        pages.last = (offset, offset + length);
        pages.bytes += length - pages.all.insert(offset, fresh).map_or(0, |old| old.len() as u64);
        Ok(())
    }
}

/// Reads `len` bytes at `offset` into a new buffer. The range is checked before the buffer is allocated.
pub(crate) fn read_vec(source: &dyn Source, offset: u64, len: u64) -> Result<Vec<u8>> {
    inside(source.name(), source.len(), offset, len)?;
    let len = usize::try_from(len)
        .map_err(|_| bad(source.name(), format!("{len} bytes do not fit this machine's memory"), "use the command line"))?;
    let mut buf = vec![0; len];
    source.read_at(offset, &mut buf)?;
    Ok(buf)
}

/// `Read` and `Seek` over a source, for the crates that want them.
#[derive(Clone)]
pub(crate) struct Cursor {
    source: Rc<dyn Source>,
    position: u64,
}

impl Cursor {
    pub(crate) fn new(source: Rc<dyn Source>) -> Cursor {
        Cursor { source, position: 0 }
    }
}

impl io::Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.source.len().saturating_sub(self.position)).min(buf.len() as u64) as usize;
        if n == 0 {
            return Ok(0);
        }
        self.source.read_at(self.position, &mut buf[..n]).map_err(io::Error::other)?;
        self.position += n as u64;
        Ok(n)
    }
}

impl io::Seek for Cursor {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let target = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::End(by) => self.source.len().checked_add_signed(by),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

/// An I/O error out of a crate: ours if a [`Source`] caused it, else `what` with the crate's words.
pub(crate) fn from_io(name: &str, what: &str, e: io::Error) -> Error {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => bad(name, format!("{what} ({e})"), FETCH_AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Seek};

    proptest! {
        #[test]
        fn cached_reads_what_the_source_holds(len in 0usize..200_000, reads in prop::collection::vec((0u64..210_000, 0usize..70_000), 1..20)) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let cached = Cached::new(Rc::new(BytesSource::new("a", bytes.clone())));
            for (offset, n) in reads {
                let mut buf = vec![0; n];
                match cached.read_at(offset, &mut buf) {
                    Ok(()) => prop_assert_eq!(&buf[..], &bytes[offset as usize..offset as usize + n]),
                    Err(_) => prop_assert!(offset + n as u64 > len as u64),
                }
            }
        }
    }

    #[test]
    fn cursor_ends_where_the_source_ends() {
        let mut cursor = Cursor::new(Rc::new(BytesSource::new("a", vec![1, 2, 3])));
        cursor.seek(io::SeekFrom::End(-1)).unwrap();
        let mut rest = Vec::new();
        cursor.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [3]);
        cursor.seek(io::SeekFrom::Start(u64::MAX)).unwrap();
        assert_eq!(cursor.read(&mut [0; 4]).unwrap(), 0);
        assert!(cursor.seek(io::SeekFrom::Current(1)).is_err());
        assert!(cursor.seek(io::SeekFrom::End(-4)).is_err());
    }
}
