//! The sections of a cubin: a 64-bit little-endian ELF file, as the System V ABI defines it.

use std::ops::Range;

/// A cubin that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cubin: {0}")]
pub struct CubinError(pub &'static str);

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `.text.gemm`.
    pub name: String,
    /// Where its bytes are in the file; empty for sections without bytes.
    pub bytes: Range<usize>,
    /// What its offset is a multiple of.
    pub align: usize,
    kind: u32,
    link: usize,
    info: usize,
}

/// A cubin, its sections found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cubin<'a> {
    data: &'a [u8],
    sections: Vec<Section>,
    /// Where the section headers are, and how long each is.
    headers: (usize, usize),
}

const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;

impl Section {
    /// Whether it takes room in the file.
    pub fn has_bytes(&self) -> bool {
        self.kind != SHT_NOBITS
    }
}

impl<'a> Cubin<'a> {
    /// Finds the sections.
    ///
    /// # Errors
    /// It is not an ELF file, or is cut short.
    pub fn parse(data: &'a [u8]) -> Result<Self, CubinError> {
        if data.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(CubinError("no 64-bit little-endian ELF header"));
        }
        let table = number(data, 0x28, 8)?;
        let (entry_size, count, names_index) = (number(data, 0x3a, 2)?, number(data, 0x3c, 2)?, number(data, 0x3e, 2)?);
        // A broken table leads past the end of the file, where `number` and `string` say so.
        let header = |index: usize| table.saturating_add(index * entry_size);
        let names = number(data, header(names_index).saturating_add(0x18), 8)?;
        let section = |index| {
            let at = header(index);
            let kind = number(data, at.saturating_add(4), 4)? as u32;
            let (offset, size) = (number(data, at + 0x18, 8)?, number(data, at + 0x20, 8)?);
            let bytes = if kind == SHT_NOBITS { 0..0 } else { offset..offset.saturating_add(size) };
            if bytes.end > data.len() {
                return Err(CubinError("a section ends after the file"));
            }
            let name = string(data, names.saturating_add(number(data, at, 4)?))?;
            let (link, info) = (number(data, at + 0x28, 4)?, number(data, at + 0x2c, 4)?);
            let align = number(data, at + 0x30, 8)?;
            Ok(Section { name, bytes, align, kind, link, info })
        };
        let sections = (0..count).map(section).collect::<Result<_, _>>()?;
        Ok(Cubin { data, sections, headers: (table, entry_size) })
    }

    /// All sections, the empty first one included.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Where the header of a section is in the file.
    pub fn section_header(&self, index: usize) -> usize {
        self.headers.0 + index * self.headers.1
    }

    /// The machine code: name of the function and bytes of each `.text.` section, in the file's order.
    pub fn code(&self) -> impl Iterator<Item = (&str, &'a [u8])> {
        self.sections.iter().filter_map(|s| Some((s.name.strip_prefix(".text.")?, &self.data[s.bytes.clone()])))
    }

    /// The bytes of the section with this name.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|s| s.name == name).map(|s| &self.data[s.bytes.clone()])
    }

    /// The relocations of the section with this name: offset in it, and the section that the address there is in.
    ///
    /// # Errors
    /// A relocation or its symbol lies outside its table.
    pub fn relocations(&self, name: &str) -> Result<Vec<(usize, &str)>, CubinError> {
        let mut out = Vec::new();
        let tables = self.sections.iter().filter(|s| matches!(s.kind, SHT_RELA | SHT_REL));
        for table in tables.filter(|s| self.sections.get(s.info).is_some_and(|t| t.name == name)) {
            let entry = if table.kind == SHT_RELA { 24 } else { 16 };
            let symbols = self.sections.get(table.link).ok_or(CubinError("relocations without symbols"))?;
            for at in table.bytes.clone().step_by(entry) {
                let symbol = symbols.bytes.start + 24 * number(self.data, at + 12, 4)?;
                let target = self.sections.get(number(self.data, symbol + 6, 2)?).ok_or(CubinError("a symbol of no section"))?;
                out.push((number(self.data, at, 8)?, target.name.as_str()));
            }
        }
        Ok(out)
    }
}

/// A little-endian number of `size` bytes.
pub(super) fn number(data: &[u8], at: usize, size: usize) -> Result<usize, CubinError> {
    let bytes = at.checked_add(size).and_then(|end| data.get(at..end)).ok_or(CubinError("cut short"))?;
    Ok(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
}

fn string(data: &[u8], at: usize) -> Result<String, CubinError> {
    let rest = data.get(at..).ok_or(CubinError("a name lies after the file"))?;
    let end = rest.iter().position(|b| *b == 0).ok_or(CubinError("a name does not end"))?;
    Ok(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_is_refused() {
        assert!(Cubin::parse(b"").is_err());
        assert!(Cubin::parse(b"\x7fELF\x02\x01").is_err());
        let mut wild = vec![0xff; 128];
        wild[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(Cubin::parse(&wild).is_err());
    }
}
