//! What a template promised of its machine code, held against the SASS report.

use tilewright_codegen::toolchain::SassReport;
use tilewright_ops::error::{Res, failed};
use tilewright_runtime::manifest::MainLoop;
use tilewright_templates::plan::TemplateKernel;

/// The counts of the main loop, for the manifest; None where no loop multiplies.
pub fn main_loop(sass: &SassReport) -> Option<MainLoop> {
    let main = sass.main()?;
    let c = &main.counts;
    Some(MainLoop {
        multiplies: main.multiply_count(),
        instructions: main.instructions,
        int: c.int,
        uniform: c.uniform,
        half: c.half,
        convert: c.convert,
        float: c.float,
        special: c.mufu,
        moves: c.moves,
        shared_loads: c.shared_loads(),
    })
}

/// Holds a kernel to its promises; says what was found, for the manifest.
///
/// # Errors
/// The first promise that is broken, with the numbers.
pub fn check(k: &TemplateKernel, s: &SassReport) -> Res<String> {
    let main = s.main().map_or(0, |l| l.counts.wgmma);
    if let Some(want) = k.main_loop_wgmmas.filter(|w| *w != main) {
        return failed(format!("{}: the main loop has {main} wgmmas in machine code, the template issues {want}", k.id));
    }
    let (hidden, all) = s.main().map_or((0, 0), |l| (l.mufu_in_flight, l.counts.mufu));
    if k.hides_exponentials && 2 * hidden < all {
        return failed(format!(
            "{}: {hidden} of {all} exponentials of the main loop run under wgmmas in flight: fewer keys in a block leave registers for more",
            k.id
        ));
    }
    let kept = budget(k, s)?;
    let mut detail =
        format!("{} instructions, {} registers, no spills, no local memory, no C75xx", s.instructions, s.max_registers);
    if k.main_loop_wgmmas.is_some() {
        detail += &format!(", {main} wgmmas in the main loop and no moves between them");
    }
    if k.hides_exponentials {
        detail += &format!(", {hidden} of {all} exponentials under wgmmas in flight");
    }
    Ok(detail + &kept)
}

fn budget(k: &TemplateKernel, s: &SassReport) -> Res<String> {
    let Some(budget) = &k.budget else { return Ok(String::new()) };
    let Some(main) = main_loop(s) else {
        return failed(format!("{}: a budget is promised for the main loop, and no loop of the machine code multiplies", k.id));
    };
    let mut kept = Vec::new();
    for (name, most) in budget.promised() {
        let mut all = [("instructions", main.instructions)].into_iter().chain(main.kinds());
        let count = all.find(|(kind, _)| *kind == name).map_or(0, |(_, count)| count);
        let each = main.per_multiply(count);
        if each > most {
            return failed(format!(
                "{}: {name} of the main loop: {count} for {} multiplies, {each:.2} each where {most:.2} are promised",
                k.id, main.multiplies
            ));
        }
        kept.push(format!("{name} {each:.2} of {most:.2}"));
    }
    Ok(format!(", a multiply of the main loop costs {}", kept.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_codegen::toolchain::nvdisasm::{Function, parse_listing};
    use tilewright_templates::plan::LoopBudget;

    /// Two wgmmas of 8-bit operands beside 5 integer, 2 packed-half, 1 conversion, 1 float, 1 move and 1 shared load.
    fn report() -> SassReport {
        let loop_body = [
            "LDS.128 R60, [R8]",
            "LOP3.LUT R64, R60, 0xf000f, R9, 0xea, !PT",
            "SHF.R.U32.HI R65, RZ, 0x8, R60",
            "PRMT R66, R60, 0x7632, R61",
            "IMAD.U32 R67, R60, 0x10000, RZ",
            "HFMA2.BF16_V2 R64, R64, R68, R69",
            "HADD2.BF16_V2 R65, R65, -R69",
            "F2FP.BF16.F32.PACK_AB R70, R71, R72",
            "FFMA R71, R72, R73, R74",
            "MOV R75, R76",
            "IGMMA.64x64x32.S8.S8 R24, R64, gdesc[UR4], R24",
            "QGMMA.64x64x32.F32.E4M3.E4M3 R24, gdesc[UR4], R24, gsb0",
            "WARPGROUP.DEPBAR.LE gsb0, 0x0",
            "ISETP.NE.AND P0, PT, R2, RZ, PT",
            "@P0 BRA 0x0",
        ];
        let text: String = loop_body.iter().enumerate().map(|(i, t)| format!("/*{:04x}*/ {t} ;\n", 16 * i)).collect();
        SassReport::of(&[Function { name: "k".into(), instrs: parse_listing(&text) }])
    }

    fn kernel(budget: Option<LoopBudget>) -> TemplateKernel {
        let found = tilewright_ops::find("gemm").and_then(|f| {
            (f.kernel)(
                tilewright_ir::Arch::Sm80,
                f.class,
                "kind=mma,bm=64,bn=64,bk=32,stages=3,warps=2x2,raster=8,load_align=4,n_align=1,split=0",
            )
        });
        TemplateKernel { budget, main_loop_wgmmas: Some(2), ..found.unwrap_or_else(|e| panic!("{e}")) }
    }

    #[test]
    fn wgmmas_of_every_type_and_what_they_cost_are_counted() {
        let main = main_loop(&report()).unwrap();
        assert_eq!((main.multiplies, main.instructions, main.int, main.half), (2, 15, 5, 2));
        assert_eq!((main.convert, main.float, main.moves, main.shared_loads), (1, 1, 1, 1));
        assert_eq!(main.per_multiply(main.int), 2.5);
    }

    #[test]
    fn a_budget_is_kept_or_refused_by_name() {
        assert!(!check(&kernel(None), &report()).unwrap().contains("costs"));
        let fits = LoopBudget { int: Some(2.5), moves: Some(0.5), ..LoopBudget::default() };
        let detail = check(&kernel(Some(fits)), &report()).unwrap();
        assert!(detail.ends_with("a multiply of the main loop costs int 2.50 of 2.50, moves 0.50 of 0.50"), "{detail}");
        for tight in [
            LoopBudget { instructions: Some(7.4), ..fits },
            LoopBudget { int: Some(2.4), ..fits },
            LoopBudget { half: Some(0.9), ..fits },
            LoopBudget { convert: Some(0.0), ..fits },
            LoopBudget { float: Some(0.4), ..fits },
            LoopBudget { moves: Some(0.0), ..fits },
            LoopBudget { shared_loads: Some(0.25), ..fits },
        ] {
            let error = check(&kernel(Some(tight)), &report()).unwrap_err().to_string();
            assert!(
                error.contains("of the main loop") && error.contains("for 2 multiplies") && error.contains("promised"),
                "{error}"
            );
        }
        let none = SassReport { main_loop: None, ..report() };
        let unpromised = TemplateKernel { main_loop_wgmmas: None, ..kernel(Some(fits)) };
        assert!(check(&unpromised, &none).unwrap_err().to_string().contains("no loop of the machine code multiplies"));
    }
}
