//! What ptxas prints.

use serde::{Deserialize, Serialize};

/// How bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A note; `C7519` is one, bad as it is.
    Info,
    /// A warning.
    Warning,
    /// The PTX is wrong.
    Error,
    /// ptxas gives up.
    Fatal,
}

/// One message of ptxas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `C7514`, where ptxas gives one.
    pub code: Option<String>,
    /// How bad.
    pub severity: Severity,
    /// The PTX line it names, from 1. With `C7517` and its like, ptxas says "around".
    pub line: Option<u32>,
    /// The text, without the code.
    pub text: String,
    /// The function it names.
    pub function: Option<String>,
}

impl Message {
    /// Whether it says that wgmma was serialised or repaired: the `C75xx`, and losses that bear no code.
    pub fn is_degraded_wgmma(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code.starts_with("C75")) || self.text.contains("Potential Performance Loss")
    }
}

/// What `ptxas -v` says of a module with one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtxasReport {
    /// Registers a thread at launch. With `setmaxnreg` a cap and not what is used: see
    /// [`SassReport::max_registers`](super::SassReport::max_registers).
    pub registers: u32,
    /// Bytes stored by spills.
    pub spill_stores: u32,
    /// Bytes loaded by spills.
    pub spill_loads: u32,
    /// Bytes of stack a thread, all called functions included.
    pub stack_frame: u32,
    /// Bytes of static shared memory.
    pub static_smem: u32,
    /// Named barriers.
    pub barriers: u32,
    /// Everything that is not a statistic.
    pub messages: Vec<Message>,
}

impl PtxasReport {
    /// Reads ptxas' stderr. Of several functions the registers and barriers are those of the entry, which alone has
    /// them; stack and spills are the worst.
    pub fn parse(stderr: &str) -> Self {
        let mut report = PtxasReport::default();
        for text in stderr.lines() {
            if let Some(message) = parse_message(text) {
                if !report.statistic(&message.text) {
                    report.messages.push(message);
                }
            } else if !report.statistic(text)
                && let Some(last) = report.messages.last_mut()
                && !text.trim().is_empty()
            {
                last.text = format!("{} {}", last.text, text.trim());
            }
        }
        report
    }

    /// Whether it tells of a spill, a stack, or wgmma that is slower than written.
    pub fn complains(&self) -> bool {
        let spilled = self.spill_stores + self.spill_loads + self.stack_frame > 0;
        spilled || self.messages.iter().any(Message::is_degraded_wgmma)
    }

    /// The first message that made ptxas fail.
    pub fn first_error(&self) -> Option<&Message> {
        let errors = || self.messages.iter().filter(|m| m.severity >= Severity::Error);
        // "Ptx assembly aborted due to errors" can come before its reason.
        errors().find(|m| !m.text.starts_with("Ptx assembly aborted")).or_else(|| errors().next())
    }

    /// Takes a line of numbers in, if it is one.
    fn statistic(&mut self, text: &str) -> bool {
        let text = text.trim();
        let frame = text.contains("bytes stack frame,") && text.contains("bytes spill stores");
        let used = text.starts_with("Used ") && text.contains(" registers");
        if frame || used {
            for part in text.trim_start_matches("Used ").split(", ") {
                let Some((number, what)) = part.trim_start_matches("used ").split_once(' ') else { continue };
                let Ok(number) = number.parse::<u32>() else { continue };
                match what {
                    "registers" => self.registers = number,
                    "barriers" => self.barriers = number,
                    "bytes smem" => self.static_smem = number,
                    "bytes stack frame" | "bytes cumulative stack size" => self.stack_frame = self.stack_frame.max(number),
                    "bytes spill stores" => self.spill_stores = self.spill_stores.max(number),
                    "bytes spill loads" => self.spill_loads = self.spill_loads.max(number),
                    _ => {}
                }
            }
        }
        let chatter = ["Compiling entry function", "Function properties for", "Compile time ="];
        frame
            || used
            || text.ends_with("bytes gmem")
            || text.contains("bytes gmem,")
            || chatter.iter().any(|c| text.starts_with(c))
    }
}

/// Reads `ptxas info    : (C7519) ...` and `ptxas k.ptx, line 25; error   : ...`.
fn parse_message(text: &str) -> Option<Message> {
    let rest = text.strip_prefix("ptxas ")?;
    let (head, body) = rest.split_once(" : ").or_else(|| rest.split_once(": "))?;
    let (place, word) = match head.rsplit_once(';') {
        Some((place, word)) => (Some(place), word),
        None => (None, head),
    };
    let severity = match word.trim() {
        "info" => Severity::Info,
        "warning" => Severity::Warning,
        "error" => Severity::Error,
        "fatal" => Severity::Fatal,
        _ => return None,
    };
    let body = body.trim();
    let (code, body) = match body.strip_prefix('(').and_then(|b| b.split_once(')')) {
        Some((code, rest)) if is_code(code) => (Some(code.to_owned()), rest.trim()),
        _ => (None, body),
    };
    let line = place.and_then(|p| number_after(p, "line ")).or_else(|| number_after(body, "around line "));
    let function = body.rsplit_once("function '").and_then(|(_, name)| name.split('\'').next()).map(str::to_owned);
    Some(Message { code, severity, line, text: body.to_owned(), function })
}

fn is_code(code: &str) -> bool {
    code.strip_prefix('C').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn number_after(text: &str, word: &str) -> Option<u32> {
    let rest = &text[text.find(word)? + word.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
