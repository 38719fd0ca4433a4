//! Reports in words: each finding with the line it is about, the other side's line, threads and places by name.

use crate::device::{BufferId, Device};
use crate::finding::{Finding, FindingKind, Severity, Thread};
use crate::launch::Report;
use crate::memory::space::{CTA_OFFSET_MASK, CTA_SHIFT, RESERVED_SHARED, SHARED_WINDOW, Target, classify};
use std::fmt::{self, Write};

/// What a text report quotes and names: the PTX text, where it came from, buffers by name.
///
/// ```
/// use tilewright_emulator::{Device, DeviceConfig, Fill, Launch, Module, Arg, Rendering};
/// let ptx = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 x) {\n\
///     .reg .b64 %rd<2>;\nld.param.b64 %rd1, [x];\nst.global.u32 [%rd1+64], 7;\nret;\n}";
/// let mut device = Device::new(DeviceConfig::default());
/// let x = device.alloc(64, Fill::Zero)?;
/// let args = vec![Arg::U64(device.address(x))];
/// let report = device.launch(&Module::parse(ptx)?, &Launch { entry: "k".into(), args, ..Launch::default() })?;
/// let text = Rendering::new(ptx, "k.ptx").name("x", &device, x).report(&report);
/// assert!(text.starts_with("error[oob]: "));
/// assert!(text.contains("--> k.ptx:7") && text.contains("st.global.u32 [%rd1+64], 7;") && text.contains("`x` + 0x40"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rendering<'a> {
    lines: Vec<&'a str>,
    path: &'a str,
    /// Name, address and bytes of each named buffer.
    places: Vec<(String, u64, u64)>,
    replay: Option<String>,
}

impl<'a> Rendering<'a> {
    /// Quotes from `ptx`, which is called `path`.
    pub fn new(ptx: &'a str, path: &'a str) -> Self {
        Rendering { lines: ptx.lines().collect(), path, places: Vec::new(), replay: None }
    }

    /// Calls a buffer by a name.
    #[must_use]
    pub fn name(self, name: &str, device: &Device, buffer: BufferId) -> Self {
        self.place(name, device.address(buffer), device.read(buffer).len() as u64)
    }

    /// Calls the `bytes` bytes from `address` on by a name; for buffers that are gone by now.
    #[must_use]
    pub fn place(mut self, name: &str, address: u64, bytes: u64) -> Self {
        self.places.push((name.into(), address, bytes));
        self
    }

    /// A command line that shows a finding again; `--seed` and the finding's seed, or `--schedules` and as many as it
    /// takes, are put at its end.
    #[must_use]
    pub fn replay(mut self, command: impl Into<String>) -> Self {
        self.replay = Some(command.into());
        self
    }

    /// All findings, errors first, a line that counts them, and the counters that are not 0.
    pub fn report(&self, report: &Report) -> String {
        let mut out = String::new();
        let (errors, lints): (Vec<_>, Vec<_>) = report.findings.iter().partition(|f| f.severity == Severity::Error);
        for finding in errors.iter().chain(&lints) {
            out += &self.finding(finding);
            out.push('\n');
        }
        for line in &report.printed {
            let _ = writeln!(out, "printf: {}", line.trim_end_matches('\n'));
        }
        if report.printed_left_out > 0 {
            let _ = writeln!(out, "printf: {} more calls are not shown", report.printed_left_out);
        }
        let _ = writeln!(out, "{}, {}", count(errors.len(), "error"), count(lints.len(), "lint"));
        out + &counters(report)
    }

    /// One finding, in several lines.
    pub fn finding(&self, f: &Finding) -> String {
        let mut out = String::new();
        let mut message = f.message.lines();
        let _ = writeln!(out, "{}[{}]: {}", f.severity, f.kind, message.next().unwrap_or_default());
        for more in message {
            let _ = writeln!(out, "   {more}");
        }
        self.quote(&mut out, f.line, f.source.as_deref());
        if let Some(thread) = &f.thread {
            let _ = writeln!(out, "   = by: {thread}");
        }
        if let Some(address) = f.address {
            let _ = writeln!(out, "   = at: {}", self.place_of(address));
        }
        if let Some(other) = &f.other {
            let _ = writeln!(out, "   = with: {}", other.what);
            self.quote(&mut out, other.line, other.source.as_deref());
            if let Some(thread) = &other.thread {
                let _ = writeln!(out, "   = by: {thread}");
            }
        }
        if f.count > 1 {
            let _ = writeln!(out, "   = times: {} at this line; this was the first", f.count);
        }
        if let Some(help) = &f.help {
            let _ = writeln!(out, "   = help: {help}");
        }
        if let Some(replay) = &self.replay {
            // Different values take two schedules to show.
            let _ = match f.kind {
                FindingKind::Nondeterminism => writeln!(out, "   = replay: {replay} --schedules {}", f.seed.saturating_add(1)),
                _ => writeln!(out, "   = replay: {replay} --seed {}", f.seed),
            };
        }
        out
    }

    /// A place in the text, unless it is about no line.
    fn quote(&self, out: &mut String, line: u32, source: Option<&str>) {
        if line == 0 {
            return;
        }
        let source = source.map_or_else(String::new, |source| format!(" ({source})"));
        let _ = writeln!(out, "  --> {}:{line}{source}", self.path);
        let text = (line as usize).checked_sub(1).and_then(|index| self.lines.get(index));
        if let Some(text) = text {
            let _ = writeln!(out, "   |  {}", text.trim());
        }
    }

    /// An address as a name and an offset, where it has one.
    fn place_of(&self, address: u64) -> String {
        // Findings give shared addresses as `.shared::cluster` has them, global ones as they are.
        let shared = if address >> 32 == 0 { Some(address as u32) } else { None };
        let shared = shared.or(match classify(address) {
            Target::Shared(address) => Some(address),
            _ => None,
        });
        if let Some(shared) = shared {
            let (rank, offset) = (shared >> CTA_SHIFT, shared & CTA_OFFSET_MASK);
            let block = if rank == 0 { String::new() } else { format!(" of block rank {rank} in its cluster") };
            return match offset.checked_sub(RESERVED_SHARED) {
                Some(user) => format!("shared memory + {user:#x}{block} (address {address:#x})"),
                None => format!("reserved shared memory{block} (address {address:#x})"),
            };
        }
        // Strays are named by the buffer they are nearest to: nothing else is within reach of it.
        let reach = 1 << 16;
        let near = |(_, base, bytes): &&(String, u64, u64)| {
            address >= base.saturating_sub(reach) && address < base.saturating_add(*bytes).saturating_add(reach)
        };
        match self.places.iter().find(near) {
            Some((name, base, bytes)) if address >= *base => {
                let after = if address - base < *bytes { String::new() } else { format!(", which has {bytes} bytes") };
                format!("`{name}` + {:#x}{after} (address {address:#x})", address - base)
            }
            Some((name, base, _)) => format!("{} bytes before `{name}` (address {address:#x})", base - address),
            None if address >= SHARED_WINDOW => format!("address {address:#x}, no global memory"),
            None => format!("address {address:#x}"),
        }
    }
}

impl Report {
    /// Nothing that makes the kernel wrong; lints may be there.
    pub fn is_clean(&self) -> bool {
        self.errors().next().is_none()
    }

    /// Findings that make the kernel wrong.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// The report in words, with lines quoted from the PTX text; [`Rendering`] can also name buffers.
    pub fn render(&self, ptx: &str, path: &str) -> String {
        Rendering::new(ptx, path).report(self)
    }

    /// Adds what a later launch had to say: findings of a kind and line that are there already are counted.
    pub fn merge(&mut self, later: Report) {
        self.add_findings(later.findings);
        self.counters += later.counters;
        self.printed.extend(later.printed);
        self.printed_left_out += later.printed_left_out;
    }

    /// Adds findings; those of a kind and line that are there already are counted.
    pub(crate) fn add_findings(&mut self, more: Vec<Finding>) {
        for finding in more {
            let same = |f: &&mut Finding| f.kind == finding.kind && f.line == finding.line && f.severity == finding.severity;
            match self.findings.iter_mut().find(same) {
                Some(known) => known.count += finding.count,
                None => self.findings.push(finding),
            }
        }
    }
}

/// The name in reports, such as `race-equal`.
impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same words as in JSON: kebab case of the variant.
        for (index, letter) in format!("{self:?}").chars().enumerate() {
            if letter.is_ascii_uppercase() && index > 0 {
                f.write_char('-')?;
            }
            f.write_char(letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Severity::Error { "error" } else { "lint" })
    }
}

/// `block (0,0,0) warp 3 lanes 0-7 (thread 96,0,0)`
impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x, y, z], [tx, ty, tz]) = (self.block, self.tid);
        write!(f, "block ({x},{y},{z}) warp {} {} (thread {tx},{ty},{tz})", self.warp, lanes(self.lanes))
    }
}

/// `lanes 0-7, 9`
fn lanes(mask: u32) -> String {
    let mut parts = Vec::new();
    let mut lane = 0;
    while lane < 32 {
        let run = (mask >> lane).trailing_ones();
        match run {
            0 => {}
            1 => parts.push(lane.to_string()),
            _ => parts.push(format!("{lane}-{}", lane + run - 1)),
        }
        lane += run + 1;
    }
    format!("lane{} {}", if mask.count_ones() == 1 { "" } else { "s" }, parts.join(", "))
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Two columns of the counters that are not 0, parts below their sums.
fn counters(report: &Report) -> String {
    let c = report.counters;
    let rows = [
        ("warp instructions", c.warp_instructions),
        ("  arithmetic", c.alu),
        ("  control", c.control),
        ("  memory", c.memory),
        ("  asynchronous copies", c.async_copy),
        ("  synchronisation", c.sync),
        ("  tensor cores", c.tensor),
        ("waits", c.waits),
        ("tensor-core operations", c.tensor_flops),
        ("shared-memory wavefronts", c.shared_wavefronts),
        ("  without bank conflicts", c.shared_wavefronts_ideal),
        ("shared bytes", c.shared_bytes_read + c.shared_bytes_written + c.wgmma_shared_bytes),
        ("  read by threads", c.shared_bytes_read),
        ("  written by threads", c.shared_bytes_written),
        ("  read by wgmma", c.wgmma_shared_bytes),
        ("global sectors", c.global_sectors),
        ("global bytes", c.global_bytes_read + c.global_bytes_written + c.tma_bytes_read + c.tma_bytes_written),
        ("  read by threads", c.global_bytes_read),
        ("  written by threads", c.global_bytes_written),
        ("  read by copies", c.tma_bytes_read),
        ("  written by copies", c.tma_bytes_written),
        ("L2 bytes", c.l2_bytes_read + c.l2_bytes_written),
        ("  read", c.l2_bytes_read),
        ("  written", c.l2_bytes_written),
    ];
    let rows = rows.into_iter().filter(|(_, value)| *value != 0);
    rows.fold(String::new(), |mut out, (name, value)| {
        let _ = writeln!(out, "  {name:<26} {value:>14}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_called_as_in_json() {
        let names = [
            (FindingKind::Oob, "oob"),
            (FindingKind::RaceEqual, "race-equal"),
            (FindingKind::WgmmaInFlight, "wgmma-in-flight"),
            (FindingKind::Nondeterminism, "nondeterminism"),
        ];
        for (kind, name) in names {
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn lanes_are_ranges() {
        assert_eq!(lanes(u32::MAX), "lanes 0-31");
        assert_eq!(lanes(1 << 31), "lane 31");
        assert_eq!(lanes(0b1011_0111), "lanes 0-2, 4-5, 7");
    }

    #[test]
    fn places_have_names() {
        let mut r = Rendering::new("", "k.ptx");
        r.places.push(("x".into(), 0x4_0001_0000, 64));
        assert!(r.place_of(0x4_0001_0010).starts_with("`x` + 0x10 ("));
        assert!(r.place_of(0x4_0001_0040).starts_with("`x` + 0x40, which has 64 bytes"));
        assert!(r.place_of(0x4_0000_fffc).starts_with("4 bytes before `x`"));
        assert!(r.place_of(0x0100_0410).starts_with("shared memory + 0x10 of block rank 1"));
        assert!(r.place_of(0x8_0000_0000).starts_with("address "));
    }
}
