//! Taking the PTX text out of a cubin.
//!
//! With line information ptxas puts a copy of the PTX into the section `.nv_debug_ptx_txt`, more than half of a cubin. A
//! pack holds the PTX beside the cubin, so the copy goes. What maps machine code to lines stays: `.debug_line` (template
//! lines, for profilers) and `.nv_debug_line_sass` (PTX lines).
//!
//! The section keeps its header, with size 0, as ptxas itself writes sections without content (`.rela.text.*`). So no
//! index changes: not of a section, nor of a symbol. That matters more here than in other ELF files, because CUDA keeps
//! symbol indices where no ELF library looks for them (the `sh_info` of `.text.*` beside the register count, and within
//! `.nv.info*`), and lists weak symbols before local ones, which ELF writers put right and so renumber.

use super::cubin::{Cubin, CubinError, Section, number};

const PTX_TEXT: &str = ".nv_debug_ptx_txt";

/// The cubin without the PTX text in it; a cubin without that text comes back as it is.
///
/// Bytes behind the text move up by a multiple of every alignment, so addresses and offsets stay congruent; what is left
/// of the text, less than the largest alignment, is zeros.
///
/// # Errors
/// It is not a cubin, or the text shares its bytes with another section or a segment.
pub fn without_ptx_text(data: &[u8]) -> Result<Vec<u8>, CubinError> {
    let cubin = Cubin::parse(data)?;
    let mut out = data.to_vec();
    let Some(text) = cubin.sections().iter().find(|s| s.name == PTX_TEXT) else { return Ok(out) };
    let (start, end) = (text.bytes.start, text.bytes.end);
    let align = cubin.sections().iter().filter(|s| s.has_bytes()).map(|s| s.align).fold(16, usize::max);
    if !align.is_power_of_two() {
        return Err(CubinError("an alignment is no power of two"));
    }
    let gone = (end - start) / align * align;
    let moved = |at: usize| match at {
        _ if at <= start => Ok(at),
        _ if at >= end => Ok(at - gone),
        _ => Err(CubinError("the PTX text shares its bytes")),
    };
    let reaches_in = |s: &Section| !s.bytes.is_empty() && s.bytes.start < end && start < s.bytes.end;
    if cubin.sections().iter().any(|s| s.name != PTX_TEXT && reaches_in(s)) {
        return Err(CubinError("the PTX text shares its bytes"));
    }
    // Elf64_Ehdr: e_phoff, e_shoff; Elf64_Phdr: p_offset, p_filesz; Elf64_Shdr: sh_offset, sh_size.
    for (index, section) in cubin.sections().iter().enumerate() {
        let header = cubin.section_header(index);
        let offset = number(data, header + 0x18, 8)?;
        if section.name == PTX_TEXT {
            put(&mut out, header + 0x20, 0);
        } else {
            put(&mut out, header + 0x18, moved(offset)?);
        }
    }
    let (segments, entry_size, count) = (number(data, 0x20, 8)?, number(data, 0x36, 2)?, number(data, 0x38, 2)?);
    for index in 0..count {
        let header = segments.saturating_add(index * entry_size);
        let (offset, size) = (number(data, header.saturating_add(8), 8)?, number(data, header + 0x20, 8)?);
        if offset < end && start < offset.saturating_add(size) {
            return Err(CubinError("the PTX text is in a segment"));
        }
        put(&mut out, header + 8, moved(offset)?);
    }
    put(&mut out, 0x20, moved(segments)?);
    put(&mut out, 0x28, moved(cubin.section_header(0))?);
    out[start..end].fill(0);
    out.drain(start..start + gone);
    Ok(out)
}

/// Writes a 64-bit number where one was read.
fn put(out: &mut [u8], at: usize, value: usize) {
    out[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cubin of null, names, PTX text (`text` bytes at 0x80), code and a NOBITS section, then the section table and one
    /// segment that is the code.
    fn cubin(text: usize) -> Vec<u8> {
        let names = b"\0.shstrtab\0.nv_debug_ptx_txt\0.text.k\0.nv.shared.k\0";
        let code = (0x80 + text).next_multiple_of(128);
        let table = code + 256;
        let mut out = vec![0u8; table];
        out[..6].copy_from_slice(b"\x7fELF\x02\x01");
        out[0x40..0x40 + names.len()].copy_from_slice(names);
        out[0x80..0x80 + text].fill(b'p');
        out[code..table].copy_from_slice(&(0..=255).collect::<Vec<u8>>());
        let rows = [
            (0u32, 0u32, 0usize, 0usize, 0usize),
            (1, 3, 0x40, names.len(), 1),
            (11, 1, 0x80, text, 1),
            (29, 1, code, 256, 128),
            (37, 8, table, 1024, 1024),
        ];
        for (name, kind, offset, size, align) in rows {
            let at = out.len();
            out.resize(at + 64, 0);
            out[at..at + 4].copy_from_slice(&name.to_le_bytes());
            out[at + 4..at + 8].copy_from_slice(&kind.to_le_bytes());
            put(&mut out, at + 0x18, offset);
            put(&mut out, at + 0x20, size);
            put(&mut out, at + 0x30, align);
        }
        let segment = out.len();
        out.resize(segment + 56, 0);
        put(&mut out, segment + 8, code);
        put(&mut out, segment + 0x20, 256);
        put(&mut out, 0x20, segment);
        put(&mut out, 0x28, table);
        for (at, value) in [(0x36, 56u16), (0x38, 1), (0x3a, 64), (0x3c, 5), (0x3e, 1)] {
            out[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        out
    }

    #[test]
    fn later_bytes_move_up_and_stay_aligned() {
        for text in [0, 1, 127, 128, 129, 1000] {
            let whole = cubin(text);
            let bare = without_ptx_text(&whole).unwrap();
            assert_eq!(whole.len() - bare.len(), text / 128 * 128, "{text}");
            let (before, after) = (Cubin::parse(&whole).unwrap(), Cubin::parse(&bare).unwrap());
            assert_eq!(before.code().collect::<Vec<_>>(), after.code().collect::<Vec<_>>());
            assert_eq!(after.section(PTX_TEXT), Some(&[][..]));
            assert!(!bare.windows(9).any(|w| w == b"ppppppppp"), "{text}");
            let segment = number(&bare, 0x20, 8).unwrap();
            let code = number(&bare, segment + 8, 8).unwrap();
            assert_eq!((code % 128, &bare[code..code + 4]), (0, &[0, 1, 2, 3][..]));
            assert_eq!(without_ptx_text(&bare).unwrap(), bare);
        }
    }

    #[test]
    fn shared_bytes_are_refused() {
        let whole = cubin(1000);
        let (table, segment) = (number(&whole, 0x28, 8).unwrap(), number(&whole, 0x20, 8).unwrap());
        let with = |at: usize, value: usize| {
            let mut bad = whole.clone();
            put(&mut bad, at, value);
            without_ptx_text(&bad).map(|_| ()).map_err(|e| e.0)
        };
        let shares = Err("the PTX text shares its bytes");
        assert_eq!(with(table + 64 + 0x20, 0x80), shares, "names that run into it");
        assert_eq!(with(table + 3 * 64 + 0x18, 0x100), shares, "code inside it");
        assert_eq!(with(segment + 8, 0x100), Err("the PTX text is in a segment"));
        assert_eq!(with(table + 3 * 64 + 0x30, 96), Err("an alignment is no power of two"));
    }
}
