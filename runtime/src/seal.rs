//! The manifest's last line: BLAKE3 of all that stands before it.
//!
//! In `kernels.pack` the archive's hashes hold the manifest; the line is for a manifest that lies in a folder, where a
//! changed digit in a shape would otherwise be a valid manifest of wrong results.

use std::borrow::Cow;

/// What stands before the hash and after it. No text before the last line contains it: a newline within a JSON string is
/// escaped.
const BEFORE: &str = ",\n\"blake3\":\"";
const AFTER: &str = "\"\n}\n";
/// Hex digits of the hash.
const DIGITS: usize = 64;

/// What a manifest's text says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// The hash is the text's.
    Whole,
    /// The text was changed after it was written.
    Broken,
    /// The text ends within the line.
    Cut,
    /// There is no such line.
    Absent,
}

/// Ends the text of an object whose closing brace is still missing.
pub(crate) fn close(mut text: String) -> String {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    text.extend([BEFORE, hash.as_str(), AFTER]);
    text
}

/// The text without its seal, and whether it is the one that was sealed.
pub(crate) fn open(text: &str) -> (Cow<'_, str>, Seal) {
    let parts = text.strip_suffix(AFTER).and_then(|text| text.split_at_checked(text.len().checked_sub(DIGITS)?));
    let Some((body, hash)) = parts.and_then(|(text, hash)| Some((text.strip_suffix(BEFORE)?, hash))) else {
        let last = text.rsplit_once(",\n").map_or("", |(_, last)| last);
        return match last.starts_with("\"blake3\"") {
            false => (Cow::Borrowed(text), Seal::Absent),
            true if last.len() < BEFORE.len() + DIGITS + AFTER.len() - ",\n".len() => (Cow::Borrowed(text), Seal::Cut),
            true => (Cow::Borrowed(text), Seal::Broken),
        };
    };
    let seal = if blake3::hash(body.as_bytes()).to_hex().as_str() == hash { Seal::Whole } else { Seal::Broken };
    (Cow::Owned([body, "\n}\n"].concat()), seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_is_json_and_opens_to_what_was_closed() {
        let text = close("{\n\"a\":1".to_owned());
        assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["blake3"].is_string());
        assert_eq!(open(&text), (Cow::Borrowed("{\n\"a\":1\n}\n"), Seal::Whole));
        assert_eq!(open(&text.replace('1', "2")).1, Seal::Broken);
        assert_eq!(open("{\n\"a\":1\n}\n").1, Seal::Absent);
        assert_eq!(open(&text[..text.len() - 1]).1, Seal::Cut);
        assert_eq!(open(&text.replace("\"\n}", "\"\n]")).1, Seal::Broken);
        assert_eq!(open("").1, Seal::Absent);
    }
}
