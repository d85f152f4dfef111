//! One error type. Its `Display` is one sentence a user can act on: which file, which tensor, what is wrong, what to do.

use std::fmt;

/// What can go wrong, from a user's point of view.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The input is at fault. Built with [`bad`].
    Input {
        /// Name of the file (never its path).
        file: String,
        /// Name of the tensor, layer or section, when one is at fault.
        tensor: Option<String>,
        /// What is wrong, as a clause: `it ends after 12 of 400 bytes`.
        reason: String,
        /// What the user can do, as a clause: `download it again`.
        advice: String,
    },
    /// A file that belongs to the model was not given.
    Missing {
        /// Name of the model file.
        file: String,
        /// Name of the file that is needed.
        needs: String,
    },
    /// A budget outside of what the curves reach.
    NotReachable {
        /// The budget asked for, in words with its unit.
        asked: String,
        /// The nearest one that can be had, in words with its unit.
        nearest: String,
    },
    /// A setting or an option that means nothing here (an unknown layer, a lock above 8 bits …).
    Setting(String),
    /// The user cancelled.
    Cancelled,
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Input { file, tensor, reason, advice } => {
                write!(f, "{}", printable(file))?;
                if let Some(tensor) = tensor {
                    write!(f, ", `{}`", printable(tensor))?;
                }
                write!(f, ": {}; {}.", printable(reason), printable(advice))
            }
            Error::Missing { file, needs } => {
                let (file, needs) = (printable(file), printable(needs));
                write!(f, "{file}: its weights are in another file, `{needs}`, which is missing; open {file} and {needs} together.")
            }
            Error::NotReachable { asked, nearest } => write!(f, "{asked} is not reachable; the nearest is {nearest}."),
            Error::Setting(what) => write!(f, "{what}"),
            Error::Cancelled => write!(f, "Cancelled."),
        }
    }
}

/// Control characters from untrusted files never reach a terminal; what is very long is cut.
fn printable(s: &str) -> String {
    const MAX: usize = 400;
    let mut out: String = s.chars().take(MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if s.chars().nth(MAX).is_some() {
        out.push('…');
    }
    out
}

/// Advice for a file that is cut short or damaged.
pub const FETCH_AGAIN: &str = "download or export it again";

/// Starts an [`Error::Input`]: `bad("a.onnx", "it is empty", FETCH_AGAIN).tensor("conv1.weight")`.
pub fn bad(file: impl Into<String>, reason: impl Into<String>, advice: impl Into<String>) -> Error {
    Error::Input { file: file.into(), tensor: None, reason: reason.into(), advice: advice.into() }
}

impl Error {
    /// Names the tensor at fault.
    pub fn tensor(self, name: impl Into<String>) -> Error {
        match self {
            Error::Input { file, reason, advice, .. } => Error::Input { file, tensor: Some(name.into()), reason, advice },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_without_control_characters() {
        let e = bad("a\u{1b}[2J.onnx", "3 of its 9 values are NaN", "export it again").tensor("conv1\n.weight");
        assert_eq!(e.to_string(), "a\u{fffd}[2J.onnx, `conv1\u{fffd}.weight`: 3 of its 9 values are NaN; export it again.");
    }
}
