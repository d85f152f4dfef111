//! The last encoding, and how it is saved.

use leptos::prelude::*;
use web_sys::Blob;

use crate::{
    report::Report,
    ui::{dom, format, jobs::Then, state::App},
};

/// The last encoding, until the allocation changes.
pub(in crate::ui) struct Encoded {
    pub(super) file_name: String,
    pub(super) file: Blob,
    pub(super) report: Box<Report>,
    pub(super) csv: String,
}

impl App {
    /// Saves a blob, and says so.
    pub fn save(self, blob: Result<Blob, String>, name: &str) {
        match blob.and_then(|b| dom::save(&b, name).map(|_| b)) {
            Ok(blob) => self.said.set(format!("Saved {name}, {}.", format::bytes(blob.size() as u64))),
            Err(why) => self.fail(format!("{name} cannot be saved: {why}.")),
        }
    }

    /// Saves the last encoding, or its report.
    pub(in crate::ui) fn save_encoded(self, then: Then) {
        let what = self.session.with_value(|s| {
            s.encoded.as_ref().map(|e| match then {
                Then::SaveTq => (Ok(e.file.clone()), e.file_name.clone()),
                Then::SaveJson => {
                    let json = serde_json::to_string_pretty(&e.report).map_err(|e| e.to_string());
                    (json.and_then(|j| dom::text_blob(&j, "application/json")), format!("{}.json", e.file_name))
                }
                Then::SaveCsv => (dom::text_blob(&e.csv, "text/csv"), format!("{}.csv", e.file_name)),
            })
        });
        if let Some((blob, name)) = what {
            self.save(blob, &name);
        }
    }
}
