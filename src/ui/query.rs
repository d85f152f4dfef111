//! The parameters of an address: one is read or set, all others stay as they are, byte for byte, whoever they belong to.

/// What a parameter says, `%` sequences decoded. `query` may begin with `?`.
pub fn get(query: &str, name: &str) -> Option<String> {
    pairs(query).find(|(n, _)| *n == name).map(|(_, value)| decoded(value))
}

/// The query with a parameter set to a value of letters, digits, `,`, `-` and `.`, or without it. Begins with `?`, unless it is empty.
pub fn set(query: &str, name: &str, value: Option<&str>) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut value = value;
    for part in query.trim_start_matches('?').split('&').filter(|p| !p.is_empty()) {
        if part.split('=').next() != Some(name) {
            parts.push(part.to_string());
        } else if let Some(value) = value.take() {
            // Where it was.
            parts.push(format!("{name}={value}"));
        }
    }
    parts.extend(value.map(|value| format!("{name}={value}")));
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.trim_start_matches('?').split('&').map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// `%2C` → `,`, and `+` → a space. What is no such sequence stays.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let digits = text.get(i + 1..i + 3).filter(|d| bytes[i] == b'%' && d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if bytes[i] == b'+' { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_as_it_was_meant() {
        for (query, expected) in [
            ("?hide=table,curve", Some("table,curve")),
            ("?threads=2&hide=table%2Ccurve", Some("table,curve")),
            ("hide=a+b%20c", Some("a b c")),
            ("?hide", Some("")),
            ("?hide=%zz%4", Some("%zz%4")),
            ("?hide=%E2%82%ACß", Some("€ß")),
            ("?hide=%ff", Some("\u{fffd}")),
            ("?hides=1&ahide=2", None),
            ("?", None),
            ("", None),
        ] {
            assert_eq!(get(query, "hide").as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn others_stay_when_one_is_set() {
        assert_eq!(set("", "learn", Some("4")), "?learn=4");
        assert_eq!(set("?threads=2&x=%2c", "learn", Some("4")), "?threads=2&x=%2c&learn=4");
        assert_eq!(set("?a&learn=1&b=2&learn=9", "learn", Some("4")), "?a&learn=4&b=2");
        assert_eq!(set("?a&learn=1&b=2", "learn", None), "?a&b=2");
        assert_eq!(set("?learn=1", "learn", None), "");
    }
}
