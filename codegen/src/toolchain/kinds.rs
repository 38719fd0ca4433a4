//! What kind of work an instruction does: the columns in which a main loop's cost beside its multiplies is counted.

use super::nvdisasm::Instr;
use super::operands::is_move;

/// A kind of work. Each kind has its own rate on the machine; all share the issue slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Integers and bits a lane: IADD3, LOP3, SHF, PRMT, IMAD, LEA, ISETP, SEL and their kin.
    Int,
    /// The same on the uniform datapath, once a warp.
    Uniform,
    /// Pairs of 16-bit floats: HFMA2, HADD2, HMUL2 and their kin, bf16 or f16.
    Half,
    /// Between number formats: F2F, F2FP, I2F, F2I, FRND and their kin.
    Convert,
    /// Floats of 32 or 64 bits: FADD, FMUL, FFMA, FMNMX, FSETP, FSEL and their kin.
    Float,
    /// Copies of one register or constant.
    Move,
    /// Loads from shared memory: LDS, LDSM.
    SharedLoad,
}

/// The kind of an instruction; None for multiplies of tensor cores, control flow, barriers and memory other than shared loads.
pub fn work(instr: &Instr) -> Option<Work> {
    let base = instr.base();
    // ptxas writes loads that no lane performs to space out asynchronous copies.
    if instr.predicate.as_deref() == Some("@!PT") {
        return None;
    }
    if is_move(instr) {
        return Some(Work::Move);
    }
    // A half widened to a float is an addition of minus zero.
    if instr.opcode.starts_with("HADD2.F32") {
        return Some(Work::Convert);
    }
    match base {
        "LDS" | "LDSM" => Some(Work::SharedLoad),
        "F2F" | "F2FP" | "F2I" | "F2IP" | "I2F" | "I2FP" | "I2I" | "I2IP" | "FRND" => Some(Work::Convert),
        "HFMA2" | "HADD2" | "HMUL2" | "HMNMX2" | "HSETP2" | "HSET2" | "VHMNMX" => Some(Work::Half),
        "FADD" | "FMUL" | "FFMA" | "FMNMX" | "FMNMX3" | "FSETP" | "FSET" | "FSEL" | "FCHK" | "FSWZADD" | "FADD2" | "FMUL2"
        | "FFMA2" | "DADD" | "DMUL" | "DFMA" | "DMNMX" | "DSETP" => Some(Work::Float),
        _ if is_int(base) => Some(Work::Int),
        _ if base.strip_prefix('U').is_some_and(is_int) => Some(Work::Uniform),
        _ => None,
    }
}

fn is_int(base: &str) -> bool {
    matches!(
        base,
        "IADD"
            | "IADD3"
            | "IMAD"
            | "IMUL"
            | "IDP"
            | "IDP4A"
            | "LEA"
            | "LOP"
            | "LOP3"
            | "SHF"
            | "SHL"
            | "SHR"
            | "PRMT"
            | "SGXT"
            | "BMSK"
            | "BREV"
            | "FLO"
            | "POPC"
            | "IABS"
            | "ISETP"
            | "IMNMX"
            | "SEL"
            | "VIADD"
            | "VIMNMX"
            | "VIMNMX3"
            | "VIADDMNMX"
            | "VABSDIFF"
            | "VABSDIFF4"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolchain::nvdisasm::parse_listing;

    #[test]
    fn kinds() {
        let cases = [
            ("LOP3.LUT R4, R5, 0xf000f, R6, 0xea, !PT", Some(Work::Int)),
            ("IMAD.SHL.U32 R21, R20, 0x10, RZ", Some(Work::Int)),
            ("IMAD.WIDE.U32 R2, R5, 0x4, R2", Some(Work::Int)),
            ("PRMT R4, R5, 0x7632, R6", Some(Work::Int)),
            ("IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28]", Some(Work::Move)),
            ("HFMA2.MMA R5, -RZ, RZ, 0, 5.9604644775390625e-08", Some(Work::Move)),
            ("CS2R R24, SRZ", Some(Work::Move)),
            ("CS2R R24, SR_CLOCKLO", None),
            ("HFMA2.BF16_V2 R4, R5, R6, R7", Some(Work::Half)),
            ("HFMA2 R4, R5, R6, -RZ", Some(Work::Half)),
            ("HADD2.F32 R4, -RZ, R5.H0_H0", Some(Work::Convert)),
            ("HADD2.BF16_V2 R4, R5, -R6", Some(Work::Half)),
            ("F2FP.BF16.F32.PACK_AB R4, R5, R6", Some(Work::Convert)),
            ("I2FP.F32.S32 R4, R5", Some(Work::Convert)),
            ("FFMA R4, R5, R6, R7", Some(Work::Float)),
            ("UIADD3 UR4, UR4, 0x1, URZ", Some(Work::Uniform)),
            ("UMOV UR4, URZ", Some(Work::Move)),
            ("LDS.128 R4, [R8+0x800]", Some(Work::SharedLoad)),
            ("LDSM.16.M88.4 R12, [R21]", Some(Work::SharedLoad)),
            ("@!PT LDS RZ, [RZ]", None),
            ("IMMA.16832.S8.S8.SAT R4, R8.ROW, R12.COL, R4", None),
            ("LDG.E R4, [R2.64]", None),
            ("BRA 0x10", None),
        ];
        for (text, expected) in cases {
            let listing = parse_listing(&format!("/*0000*/ {text} ;"));
            assert_eq!(work(&listing[0]), expected, "{text}");
        }
    }
}
