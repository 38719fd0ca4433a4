//! Reading class keys: `name=value` fields, all of them, in their order.

/// The fields of a class key that are still to be read.
pub(super) struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Fields(text.split(','))
    }

    /// The value of the next field; none where it is not called `key`.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// True where nothing is left.
    pub(super) fn end(mut self) -> bool {
        self.0.next().is_none()
    }
}

/// `0` or `1`.
pub(super) fn flag(text: &str) -> Option<bool> {
    choice(text, &[("0", false), ("1", true)])
}

/// The value a table has for a name.
pub(super) fn choice<T: Copy>(text: &str, names: &[(&str, T)]) -> Option<T> {
    names.iter().find(|r| r.0 == text).map(|r| r.1)
}
