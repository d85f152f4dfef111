//! The frames of a `.tq`: where each section is, in a file as it was written and in a damaged one.

use super::{FRAME, Kind, frame};
use crate::{
    error::{FETCH_AGAIN, Result, bad},
    io::Source,
    limits,
};

/// Kind, offset and length of a section's body.
pub type Section = (Kind, u64, u64);

/// Most bytes whose checksums are computed to find sections again, in lengths of the file.
const SEARCHED: u64 = 64;
/// Bytes that are read at a time where sections are looked for: at first, and at most. A gap may be short, and there may be many.
const WINDOW: [u64; 2] = [1 << 8, 1 << 16];

/// What a frame at `at` says of itself; a clause if it cannot be one.
fn section(source: &dyn Source, at: u64) -> Result<std::result::Result<Section, String>> {
    if source.len() - at < FRAME {
        return Ok(Err(format!("it ends at byte {} within a section", source.len())));
    }
    let mut start = [0; 5];
    source.read_at(at, &mut start)?;
    let Some(kind) = Kind::of(start[0]) else { return Ok(Err(format!("its section at byte {at} has the unknown kind {}", start[0]))) };
    let len = u64::from(u32::from_le_bytes([start[1], start[2], start[3], start[4]]));
    if len > source.len() - at - FRAME {
        return Ok(Err(format!("its section at byte {at} claims {len} bytes, past the end of the file")));
    }
    Ok(Ok((kind, at + 5, len)))
}

/// Walks over the frames. The last one is the end section, which is not in the list.
pub fn scan(source: &dyn Source) -> Result<Vec<Section>> {
    let wrong = |reason: String| bad(source.name(), reason, FETCH_AGAIN);
    let mut sections = Vec::new();
    let mut at = 8;
    loop {
        if sections.len() > limits::TENSORS + 3 {
            return Err(wrong(format!("it has more than {} sections", limits::TENSORS)));
        }
        let (kind, body, len) = section(source, at)?.map_err(wrong)?;
        if kind == Kind::End {
            let count = read_section(source, kind, body, len)?;
            if count != (sections.len() as u32).to_le_bytes() || body + len + 4 != source.len() {
                return Err(wrong("it does not end where its end section says".into()));
            }
            return Ok(sections);
        }
        sections.push((kind, body, len));
        at = body + len + 4;
    }
}

/// Walks over the frames of a damaged file. A section stays one if its checksum is right, or that of the one after it: then its own frame is.
/// Otherwise the next section with a right checksum is looked for; in between is a gap, `None`, of some number of sections.
pub fn recover(source: &dyn Source) -> Result<Vec<Option<Section>>> {
    let mut sections: Vec<Option<Section>> = Vec::new();
    // Random bytes look like a long section here and there: how many bytes of these are read.
    let mut left = SEARCHED * source.len();
    let mut right = |candidate: &Section| -> Result<bool> {
        let &(kind, body, len) = candidate;
        if len + FRAME > left {
            return Ok(false);
        }
        left -= len + FRAME;
        Ok(read_section(source, kind, body, len).is_ok())
    };
    let mut at = 8;
    while at < source.len() && sections.len() <= limits::TENSORS + 3 {
        if let Ok(found) = section(source, at)? {
            let after = found.1 + found.2 + 4;
            let whole = right(&found)? || matches!(section(source, after)?, Ok(next) if right(&next)?);
            if whole && found.0 == Kind::End {
                return Ok(sections);
            }
            if whole {
                sections.push(Some(found));
                at = after;
                continue;
            }
        }
        sections.push(None);
        at = 'search: {
            let (mut from, [mut size, most]) = (at + 1, WINDOW);
            while from < source.len() {
                let mut window = vec![0; size.min(source.len() - from) as usize];
                source.read_at(from, &mut window)?;
                for at in window.iter().zip(from..).filter(|(byte, _)| Kind::of(**byte).is_some()).map(|(_, at)| at) {
                    if matches!(section(source, at)?, Ok(found) if right(&found)?) {
                        break 'search at;
                    }
                }
                from += window.len() as u64;
                size = most.min(2 * size);
            }
            source.len()
        };
    }
    Ok(sections)
}

/// Reads the body of a section that was found, and checks its checksum.
pub fn read_section(source: &dyn Source, kind: Kind, at: u64, len: u64) -> Result<Vec<u8>> {
    let mut body = vec![0; len as usize + 4];
    source.read_at(at, &mut body)?;
    let crc = body.split_off(len as usize);
    if frame(kind, &body).1 != crc[..] {
        return Err(bad(source.name(), format!("the section at byte {} is damaged (its checksum differs)", at - 5), FETCH_AGAIN));
    }
    Ok(body)
}
