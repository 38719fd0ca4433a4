//! Where an operation was written: the template's own file and line, carried down to PTX `.loc`.

use std::panic::Location;

/// A source position; `file` indexes a [`SourceMap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Loc {
    /// Index into the source map's files.
    pub file: u32,
    /// Line, from 1; 0 where unknown.
    pub line: u32,
}

/// The files that locations refer to. Paths are relative to the workspace, so that the text of a kernel is the same
/// in every checkout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// File names, in order of first use.
    pub files: Vec<String>,
}

impl SourceMap {
    /// The location of a `#[track_caller]` caller.
    pub fn intern(&mut self, at: &Location<'_>) -> Loc {
        let name = workspace_relative(at.file());
        let file = match self.files.iter().position(|f| f == name) {
            Some(i) => i,
            None => {
                self.files.push(name.to_string());
                self.files.len() - 1
            }
        };
        Loc { file: file as u32, line: at.line() }
    }

    /// `file:line`, or `?` for an unknown place.
    pub fn display(&self, loc: Loc) -> String {
        match self.files.get(loc.file as usize) {
            Some(f) if loc.line > 0 => format!("{f}:{}", loc.line),
            _ => "?".to_string(),
        }
    }
}

/// Cuts what differs between checkouts: everything before the last path part that starts a workspace folder.
fn workspace_relative(path: &str) -> &str {
    ["templates/src/", "tests/src/", "ir/src/", "benches/", "tests/"]
        .iter()
        .filter_map(|part| path.rfind(part))
        .max()
        .map_or(path, |at| &path[at..])
}
