//! Which registers an instruction names, wide operands counted in full.
//!
//! nvdisasm prints the first register of a wide operand only; how many follow is in the opcode.

use super::nvdisasm::Instr;
use std::ops::Range;

/// The general registers of each operand, in order: `R24` of a 64x256 wgmma is `24..152`. Uniform registers, `RZ` and
/// constants are left out.
pub fn registers(instr: &Instr) -> impl Iterator<Item = Range<u32>> {
    operands(&instr.operands).enumerate().flat_map(move |(index, operand)| {
        names(operand).map(move |(first, in_address, suffix)| {
            let width = match suffix.starts_with("64") {
                true => 2,
                false if in_address => 1,
                false => width(instr, index),
            };
            first..first + width
        })
    })
}

/// Whether this is an asynchronous warpgroup multiply.
pub fn is_wgmma(instr: &Instr) -> bool {
    matches!(instr.base(), "HGMMA" | "QGMMA" | "IGMMA" | "BGMMA")
}

/// Whether this is a warp multiply.
pub fn is_mma(instr: &Instr) -> bool {
    matches!(instr.base(), "HMMA" | "IMMA" | "DMMA" | "BMMA" | "QMMA" | "OMMA")
}

/// Whether this copies one register or constant and does nothing else. ptxas spreads constants over the pipes: some come
/// as `HFMA2.MMA R5, -RZ, RZ, 0, 0`, pairs of zeros as `CS2R R4, SRZ`.
pub fn is_move(instr: &Instr) -> bool {
    match instr.base() {
        "MOV" | "UMOV" => true,
        "IMAD" => instr.opcode.starts_with("IMAD.MOV"),
        "HFMA2" => instr.operands.split_once(", ").is_some_and(|(_, rest)| rest.starts_with("-RZ, RZ,")),
        "CS2R" => instr.operands.ends_with(" SRZ"),
        _ => false,
    }
}

/// Splits at the commas outside brackets.
fn operands(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0i32;
    text.split(move |c| {
        depth += i32::from(c == '[') - i32::from(c == ']');
        c == ',' && depth == 0
    })
}

/// The registers in one operand: number, whether inside brackets, and what follows the dot.
fn names(operand: &str) -> impl Iterator<Item = (u32, bool, &str)> {
    operand.match_indices('R').filter_map(move |(at, _)| {
        let starts_word = !operand[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        let digits = operand[at + 1..].split(|c: char| !c.is_ascii_digit()).next()?;
        let number = digits.parse().ok().filter(|_| starts_word)?;
        let suffix = operand[at + 1 + digits.len()..].strip_prefix('.').unwrap_or("");
        Some((number, operand[..at].contains('['), suffix))
    })
}

/// Registers of a plain operand.
fn width(instr: &Instr, index: usize) -> u32 {
    let has = |modifier: &str| instr.opcode.split('.').any(|part| part == modifier);
    match instr.base() {
        "LDG" | "LDS" | "LDC" | "LDL" | "LD" | "STG" | "STS" | "STL" | "ST" | "ATOMG" | "ATOMS" | "ATOM" | "RED" | "REDG" => {
            if has("128") {
                4
            } else if has("64") {
                2
            } else {
                1
            }
        }
        "LDSM" | "STSM" => {
            if has("4") {
                4
            } else if has("2") {
                2
            } else {
                1
            }
        }
        _ if is_wgmma(instr) => match index {
            1 => 4,
            _ => wgmma_accumulator(&instr.opcode),
        },
        // A and B come from narrower instructions that are counted themselves.
        _ if is_mma(instr) && index == 0 => match () {
            _ if instr.opcode.starts_with("IMMA.8816") || (has("F16") && !has("F32")) => 2,
            _ => 4,
        },
        "DADD" | "DMUL" | "DFMA" | "FADD2" | "FMUL2" | "FFMA2" if index == 0 => 2,
        "CS2R" if index == 0 && !has("32") => 2,
        _ if index == 0 && (has("WIDE") || instr.opcode.starts_with("F2F.F64") || instr.opcode.starts_with("I2F.F64")) => 2,
        _ if index == 3 && has("WIDE") => 2,
        _ => 1,
    }
}

/// Accumulator registers a thread of `HGMMA.64x256x16.F32.BF16`: 64 rows of N over 128 threads, 16 or 32 bits each.
fn wgmma_accumulator(opcode: &str) -> u32 {
    let mut parts = opcode.split('.').skip_while(|p| !p.starts_with("64x"));
    let n = parts.next().and_then(|shape| shape.split('x').nth(1)).and_then(|n| n.parse::<u32>().ok());
    n.unwrap_or(256) / if parts.next() == Some("F16") { 4 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::nvdisasm::parse_listing;

    #[test]
    fn wide_operands() {
        #[expect(clippy::single_range_in_vec_init, reason = "a list of ranges, some of one")]
        let cases = [
            ("HGMMA.64x256x16.F32.BF16 R24, gdesc[UR12], R24, !UPT, gsb0", vec![24..152, 24..152]),
            ("HGMMA.64x64x16.F16 R24, R4, gdesc[UR4], RZ", vec![24..40, 4..8]),
            ("QGMMA.64x96x32.F32.E4M3.E4M3 R24, gdesc[UR8], R24", vec![24..72, 24..72]),
            ("STG.E.128 desc[UR4][R2.64+0x200], R24", vec![2..4, 24..28]),
            ("LDSM.16.MT88.4 R8, [R40+0x800]", vec![8..12, 40..41]),
            ("HMMA.16816.F32.BF16 R4, R8.reuse, R12, R4", vec![4..8, 8..9, 12..13, 4..5]),
            ("IMAD.WIDE.U32 R2, R5, 0x4, R2", vec![2..4, 5..6, 2..4]),
            ("S2R R5, SR_TID.X", vec![5..6]),
            ("FADD R0, -RZ, |R3|", vec![0..1, 3..4]),
            ("R2UR UR12, R2", vec![2..3]),
        ];
        for (text, expected) in cases {
            let listing = parse_listing(&format!("/*0000*/ {text} ;"));
            assert_eq!(registers(&listing[0]).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
