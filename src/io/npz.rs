//! NumPy's `.npz`: a zip archive with an `.npy` file per array.

use std::rc::Rc;

use super::skeleton::{Member, Piece, Skeleton};
use super::table::{Place, Table};
use super::zip::Archive;
use super::{Format, Model, Source, npy};
use crate::error::Result;

/// Reads the headers of all arrays. Of a deflated array no more than the header is inflated.
pub(crate) fn open(source: Rc<dyn Source>) -> Result<Model> {
    let file = source.name().to_string();
    let file_bytes = source.len();
    let archive = Rc::new(Archive::open(source)?);
    let mut table = Table::new(&file);
    let mut members = Vec::with_capacity(archive.entries.len());
    let mut kept = 0;
    for (index, entry) in archive.entries.iter().enumerate() {
        let pieces = match entry.name.strip_suffix(".npy") {
            Some(name) => {
                let array = npy::header(&file, name, entry.size, &|offset, len| archive.read(index, offset, len))?;
                let place = Place::Member { archive: archive.clone(), index, offset: array.header.len() as u64 };
                let tensor = table.push(array.info.clone(), place, array.axes())?;
                array.pieces(tensor)
            }
            None => vec![Piece::Bytes(archive.keep(index, &mut kept)?)],
        };
        members.push(Member { name: entry.name.clone(), deflated: entry.deflated, pieces });
    }
    Ok(Model {
        name: file,
        format: Format::Npz,
        file_bytes,
        tensors: table.infos.clone(),
        skeleton: Skeleton::Zip(members),
        reader: Rc::new(table),
        notes: Vec::new(),
        graph: None,
    })
}
