//! Reviewed exceptions to the contract.

/// One exception: this code, in these kernels, for this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// What is allowed: a ptxas code, or a [`Breach::code`](super::Breach::code).
    pub code: &'static str,
    /// Which kernels; `*` stands for any run of characters.
    pub kernel: &'static str,
    /// Why it does no harm there: a measurement, or a comparison of the SASS.
    pub reason: &'static str,
}

/// Every exception in force. A row is added in the commit that reviews it.
pub const ALLOWED: &[Allowed] = &[];

impl Allowed {
    /// Whether this row excuses `code` in `kernel`.
    pub fn covers(&self, code: &str, kernel: &str) -> bool {
        self.code == code && matches_glob(self.kernel, kernel)
    }
}

/// Whether `name` matches a pattern in which `*` stands for any run of characters.
pub fn matches_glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => {
            let Some(tail) = name.strip_prefix(head) else { return false };
            let mut starts = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
            starts.any(|at| matches_glob(rest, &tail[at..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("gemm_*", "gemm_bf16", true),
            ("gemm_*", "attn", false),
            ("*_sm90_*_rs", "gemm_sm90_m64_rs", true),
            ("*_sm90_*_rs", "gemm_sm90_m64_ss", false),
            ("k", "k2", false),
            ("*", "", true),
        ] {
            assert_eq!(matches_glob(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn every_row_says_why() {
        assert!(ALLOWED.iter().all(|row| row.reason.len() > 20 && !row.code.is_empty()));
    }
}
