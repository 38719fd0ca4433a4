//! Which PTX line each instruction came from: the section `.nv_debug_line_sass`, a DWARF 2 line program (DWARF 4
//! section 6.2).

use super::cubin::{Cubin, CubinError};
use std::collections::HashMap;

const SECTION: &str = ".nv_debug_line_sass";

/// PTX lines by instruction address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineTable {
    /// For each function, address and PTX line, ascending.
    rows: HashMap<String, Vec<(u32, u32)>>,
}

impl LineTable {
    /// Reads the table of a cubin; empty where ptxas wrote none.
    ///
    /// # Errors
    /// The table is cut short.
    pub fn of(cubin: &Cubin) -> Result<Self, CubinError> {
        let mut table = LineTable::default();
        let Some(data) = cubin.section(SECTION) else { return Ok(table) };
        let targets: HashMap<usize, &str> = cubin.relocations(SECTION)?.into_iter().collect();
        let mut reader = Reader { data, at: 0 };
        while reader.at < data.len() {
            table.program(&mut reader, &targets)?;
        }
        table.rows.values_mut().for_each(|rows| rows.sort_by_key(|(address, _)| *address));
        Ok(table)
    }

    /// The PTX line of the instruction at `address` of `function`. ptxas moves instructions about, and gives the ones
    /// it made the line of a neighbour.
    pub fn line(&self, function: &str, address: u32) -> Option<u32> {
        let rows = self.rows.get(function)?;
        rows[..rows.partition_point(|(at, _)| *at <= address)].last().map(|(_, line)| *line)
    }

    /// Runs one line program, with the state machine's registers as locals.
    fn program(&mut self, r: &mut Reader, targets: &HashMap<usize, &str>) -> Result<(), CubinError> {
        let end = r.number(4)? + r.at;
        let version = r.number(2)?;
        if !(2..=4).contains(&version) || end > r.data.len() {
            return Err(CubinError("a line table of unknown version or length"));
        }
        let header_size = r.number(4)?;
        let program = r.at + header_size;
        let step = r.number(1)?;
        r.at += usize::from(version == 4) + 1;
        let line_base = r.number(1)? as u8 as i8;
        let line_range = r.number(1)?.max(1);
        let opcode_base = r.number(1)?;
        let operand_counts: Vec<usize> = (1..opcode_base).map(|_| r.number(1)).collect::<Result<_, _>>()?;
        r.at = program;
        let (mut function, mut address, mut line) = (None, 0usize, 1i64);
        while r.at < end {
            let opcode = r.number(1)?;
            let mut row = false;
            match opcode {
                0 => {
                    let size = r.uleb()?;
                    let next = r.at.saturating_add(size);
                    match r.number(1)? {
                        1 => (function, address, line) = (None, 0, 1),
                        2 => {
                            function = targets.get(&r.at).and_then(|s| s.strip_prefix(".text."));
                            address = r.number(size.saturating_sub(1).min(8))?;
                        }
                        _ => {}
                    }
                    r.at = next;
                }
                1 => row = true,
                2 => address = address.wrapping_add(r.uleb()?.wrapping_mul(step)),
                3 => line = line.wrapping_add(r.sleb()?),
                8 if opcode_base > 8 => address = address.wrapping_add((255 - opcode_base) / line_range * step),
                9 if opcode_base > 9 => address = address.wrapping_add(r.number(2)?),
                _ if opcode < opcode_base => {
                    for _ in 0..operand_counts[opcode - 1] {
                        r.uleb()?;
                    }
                }
                _ => {
                    let special = opcode - opcode_base;
                    address = address.wrapping_add(special / line_range * step);
                    line = line.wrapping_add(i64::from(line_base) + (special % line_range) as i64);
                    row = true;
                }
            }
            if let (true, Some(name), Ok(line)) = (row, function, u32::try_from(line)) {
                self.rows.entry(name.to_owned()).or_default().push((address as u32, line));
            }
        }
        r.at = end;
        Ok(())
    }
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn number(&mut self, size: usize) -> Result<usize, CubinError> {
        let bytes = self.at.checked_add(size).and_then(|end| self.data.get(self.at..end));
        let bytes = bytes.ok_or(CubinError("a line table is cut short"))?;
        self.at += size;
        Ok(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn uleb(&mut self) -> Result<usize, CubinError> {
        let (mut value, mut shift) = (0usize, 0);
        loop {
            let byte = self.number(1)?;
            value |= (byte & 0x7f).checked_shl(shift).unwrap_or(0);
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn sleb(&mut self) -> Result<i64, CubinError> {
        let start = self.at;
        let value = self.uleb()? as i64;
        let bits = 7 * (self.at - start);
        let negative = self.data[self.at - 1] & 0x40 != 0;
        Ok(if negative && bits < 64 { value.wrapping_sub(1 << bits) } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leb128() {
        let data = [0xa9, 0x01, 0x75, 0x84, 0x7d];
        let mut r = Reader { data: &data, at: 0 };
        assert_eq!((r.uleb(), r.sleb(), r.sleb()), (Ok(169), Ok(-11), Ok(-380)));
        assert!(r.uleb().is_err());
    }
}
