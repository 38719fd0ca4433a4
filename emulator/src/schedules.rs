//! The same work under several schedules.

use crate::device::{Device, DeviceConfig};
use crate::launch::Report;

/// Runs the same work on a fresh device for each seed, until one finds an error. The findings of all are in the report;
/// counters and prints are those of the first schedule.
///
/// `run` allocates, launches and gives what it wants to know of the launches; several reports go together by
/// [`Report::merge`]. The crate's first page has an example.
///
/// # Errors
/// The first error of `run`.
pub fn check_schedules<E>(
    config: DeviceConfig,
    seeds: impl IntoIterator<Item = u64>,
    mut run: impl FnMut(&mut Device) -> Result<Report, E>,
) -> Result<Report, E> {
    let mut all: Option<Report> = None;
    for seed in seeds {
        let report = run(&mut Device::new(DeviceConfig { seed, ..config }))?;
        let clean = report.is_clean();
        match &mut all {
            None => all = Some(report),
            Some(all) => all.add_findings(report.findings),
        }
        if !clean {
            break;
        }
    }
    Ok(all.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arg, Fill, Launch, Module};

    #[test]
    fn schedules_end_with_the_first_error() -> Result<(), Box<dyn std::error::Error>> {
        let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x) {\n.reg .b64 %rd<2>;\n\
                   ld.param.b64 %rd1, [x];\nst.global.u32 [%rd1], 7;\nret;\n}";
        let module = Module::parse(ptx)?;
        for (bytes, runs) in [(4, 3), (2, 1)] {
            let mut ran = 0;
            let report = check_schedules(DeviceConfig::default(), 0..3, |device| {
                ran += 1;
                let x = device.alloc(bytes, Fill::Undefined)?;
                let args = vec![Arg::U64(device.address(x))];
                let launch = Launch { entry: "k".into(), args, ..Launch::default() };
                Ok::<_, Box<dyn std::error::Error>>(device.launch(&module, &launch)?)
            })?;
            assert_eq!((ran, report.is_clean()), (runs, runs == 3));
        }
        Ok(())
    }
}
