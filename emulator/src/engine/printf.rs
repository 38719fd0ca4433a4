//! `printf` and `assert` of device code: the functions `vprintf` and `__assertfail` that CUDA compilers call.

use super::access::lanes_of;
use super::cluster::{At, Cluster};
use super::ldst::extend;
use super::step::Flow;
use super::warp::Warp;
use crate::finding::FindingKind;
use crate::memory::space::classify;
use crate::program::call_op::{Builtin, Call, Slot};
use crate::program::memory_op::Elem;

/// What one call of `printf` wrote.
#[derive(Clone, Debug)]
pub struct Printed {
    /// Block, `[x, y, z]`.
    pub block: [u32; 3],
    pub text: String,
}

/// Calls of `printf` that one cluster keeps.
const MOST_CALLS: usize = 10_000;
/// Bytes of a format string, or of a `%s` argument, that are read.
const MOST_BYTES: u64 = 4096;

impl Cluster<'_> {
    pub(super) fn builtin(&mut self, warp: &mut Warp, index: usize, at: &At, lanes: u32, builtin: Builtin, op: &Call) -> Flow {
        match builtin {
            Builtin::Printf => self.printf(warp, index, at, lanes, op),
            Builtin::AssertFail => self.assert_fail(warp, index, at, lanes, op),
        }
    }

    fn known(&mut self, warp: &Warp, index: usize, at: &At, slot: Slot, lane: usize, what: &str) -> Option<u64> {
        let value = self.argument(warp, index, slot, lane);
        if value.is_none() {
            self.report(FindingKind::Uninit, at, 1 << lane, None, || format!("{what} was never set"));
        }
        value
    }

    fn printf(&mut self, warp: &mut Warp, index: usize, at: &At, lanes: u32, op: &Call) -> Flow {
        for lane in lanes_of(lanes) {
            let [format, list] = op.args[..] else { return Flow::Next };
            let format = self.known(warp, index, at, format, lane, "the format of printf");
            // Without arguments the list may be anything.
            let list = self.argument(warp, index, list, lane).unwrap_or(0);
            let mut count = -1i32;
            if let Some(format) = format {
                let format = self.text(warp, at, lane, format);
                let (text, arguments) = self.format(warp, at, lane, &format, list);
                count = arguments;
                if self.printed.len() < MOST_CALLS {
                    self.printed.push(Printed { block: self.ctas[at.cta].id, text });
                } else {
                    self.left_out += 1;
                }
            }
            if let Some(slot) = op.returns.first() {
                self.give(warp, index, *slot, lane, count as u32);
            }
        }
        self.progress();
        Flow::Next
    }

    fn assert_fail(&mut self, warp: &Warp, index: usize, at: &At, lanes: u32, op: &Call) -> Flow {
        for lane in lanes_of(lanes) {
            let words: Vec<u64> = op.args.iter().map(|slot| self.argument(warp, index, *slot, lane).unwrap_or(0)).collect();
            let [message, file, line, function, _] = words[..] else { return Flow::Next };
            let mut text = |address| if address == 0 { "?".into() } else { self.text(warp, at, lane, address) };
            let (message, file, function) = (text(message), text(file), text(function));
            self.report(FindingKind::Exit, at, 1 << lane, None, || {
                format!("assertion `{message}` failed at {file}:{line} in {function}")
            });
        }
        self.fatal = true;
        Flow::Ended
    }

    fn byte(&mut self, warp: &Warp, at: &At, lane: usize, address: u64) -> u8 {
        self.load_lane(warp, at, lane, classify(address), 1) as u8
    }

    /// The string at a generic address, up to its zero.
    fn text(&mut self, warp: &Warp, at: &At, lane: usize, address: u64) -> String {
        let before = self.findings_count();
        let mut bytes = Vec::new();
        for offset in 0..MOST_BYTES {
            let byte = self.byte(warp, at, lane, address.wrapping_add(offset));
            if byte == 0 || self.findings_count() != before {
                break;
            }
            bytes.push(byte);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The text of a format with arguments from a list in memory, and how many there were.
    fn format(&mut self, warp: &Warp, at: &At, lane: usize, format: &str, list: u64) -> (String, i32) {
        let mut out = String::new();
        let mut cursor = list;
        let mut count = 0;
        let mut next = |cluster: &mut Self, bytes: u64| {
            cursor = cursor.next_multiple_of(bytes);
            let value = cluster.load_lane(warp, at, lane, classify(cursor), bytes as u32) as u64;
            cursor += bytes;
            count += 1;
            value
        };
        let mut rest = format;
        while let Some(start) = rest.find('%') {
            out += &rest[..start];
            rest = &rest[start + 1..];
            let Some((spec, bytes)) = Spec::parse(rest) else {
                // What is no conversion is printed as it is.
                out.push('%');
                continue;
            };
            rest = &rest[bytes..];
            if spec.kind == '%' {
                out.push('%');
                continue;
            }
            let mut spec = spec;
            if spec.width_from_list {
                let width = next(self, 4) as u32 as i32;
                spec.left |= width < 0;
                spec.width = width.unsigned_abs() as usize;
            }
            if spec.precision_from_list {
                spec.precision = usize::try_from(next(self, 4) as u32 as i32).ok();
            }
            match spec.kind {
                's' => {
                    let address = next(self, 8);
                    let text = if address == 0 { "(null)".into() } else { self.text(warp, at, lane, address) };
                    out += &spec.string(&text);
                }
                'd' | 'i' | 'u' | 'x' | 'X' | 'o' | 'c' => {
                    let bits = next(self, if spec.bytes == 8 { 8 } else { 4 });
                    out += &spec.integer(bits);
                }
                'p' => {
                    let address = next(self, 8);
                    out += &spec.pad(format!("{address:#x}"), false);
                }
                _ => {
                    let bits = next(self, 8);
                    out += &spec.float(f64::from_bits(bits));
                }
            }
        }
        out += rest;
        (out, count)
    }
}

/// `%-08.3lld` without its percent sign.
#[derive(Clone, Copy, Debug)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    width: usize,
    width_from_list: bool,
    precision: Option<usize>,
    precision_from_list: bool,
    /// Bytes of an integer.
    bytes: u32,
    kind: char,
}

impl Spec {
    /// The conversion at the start of the text and its length.
    fn parse(text: &str) -> Option<(Spec, usize)> {
        let mut spec = Spec {
            left: false,
            zero: false,
            plus: false,
            space: false,
            alternate: false,
            width: 0,
            width_from_list: false,
            precision: None,
            precision_from_list: false,
            bytes: 4,
            kind: '%',
        };
        let bytes = text.as_bytes();
        let mut at = 0;
        let digits = |at: &mut usize| {
            let start = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            // Nobody pads to more than a line.
            text[start..*at].parse::<usize>().map_or(0, |value| value.min(4096))
        };
        loop {
            match bytes.get(at)? {
                b'-' => spec.left = true,
                b'0' => spec.zero = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                _ => break,
            }
            at += 1;
        }
        if bytes.get(at) == Some(&b'*') {
            spec.width_from_list = true;
            at += 1;
        } else {
            spec.width = digits(&mut at);
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            if bytes.get(at) == Some(&b'*') {
                spec.precision_from_list = true;
                at += 1;
            } else {
                spec.precision = Some(digits(&mut at));
            }
        }
        while let Some(length) = bytes.get(at) {
            match length {
                b'h' => spec.bytes /= 2,
                b'l' | b'j' | b'z' | b't' | b'L' => spec.bytes = 8,
                _ => break,
            }
            at += 1;
        }
        spec.bytes = spec.bytes.max(1);
        spec.kind = *bytes.get(at)? as char;
        "diuxXocspfFeEgGaA%".contains(spec.kind).then_some((spec, at + 1))
    }

    fn pad(&self, text: String, zeros: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.left {
            return text + &" ".repeat(missing);
        }
        if zeros && self.zero {
            // Zeros come behind the sign and the `0x`.
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            let prefix = if text[sign..].starts_with("0x") || text[sign..].starts_with("0X") { sign + 2 } else { sign };
            return format!("{}{}{}", &text[..prefix], "0".repeat(missing), &text[prefix..]);
        }
        " ".repeat(missing) + &text
    }

    fn string(&self, text: &str) -> String {
        let text: String = text.chars().take(self.precision.unwrap_or(usize::MAX)).collect();
        self.pad(text, false)
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (false, true, _) => "+",
            (false, false, true) => " ",
            _ => "",
        }
    }

    fn integer(&self, bits: u64) -> String {
        if self.kind == 'c' {
            return self.pad(((bits as u8) as char).to_string(), false);
        }
        let signed = matches!(self.kind, 'd' | 'i');
        let value = extend(u128::from(bits), Elem { bytes: self.bytes, signed }) as i128;
        let magnitude = value.unsigned_abs();
        let mut digits = match self.kind {
            'x' => format!("{magnitude:x}"),
            'X' => format!("{magnitude:X}"),
            'o' => format!("{magnitude:o}"),
            _ => magnitude.to_string(),
        };
        if let Some(precision) = self.precision {
            digits = if precision == 0 && magnitude == 0 { String::new() } else { format!("{digits:0>precision$}") };
        }
        let prefix = match self.kind {
            'x' if self.alternate && magnitude != 0 => "0x",
            'X' if self.alternate && magnitude != 0 => "0X",
            'o' if self.alternate && !digits.starts_with('0') => "0",
            _ => "",
        };
        let sign = if signed { self.sign(value < 0) } else { "" };
        self.pad(format!("{sign}{prefix}{digits}"), self.precision.is_none())
    }

    fn float(&self, value: f64) -> String {
        let sign = self.sign(value.is_sign_negative());
        let upper = self.kind.is_ascii_uppercase();
        let body = if value.is_nan() {
            "nan".to_string()
        } else if value.is_infinite() {
            "inf".to_string()
        } else {
            let magnitude = value.abs();
            let precision = self.precision.unwrap_or(6);
            match self.kind.to_ascii_lowercase() {
                'f' => format!("{magnitude:.precision$}"),
                'e' => exponent(magnitude, precision),
                'g' => self.general(magnitude, precision),
                _ => hexadecimal(magnitude, self.precision),
            }
        };
        let body = if upper { body.to_ascii_uppercase() } else { body };
        self.pad(format!("{sign}{body}"), value.is_finite())
    }

    /// `%g`: the shorter of `%e` and `%f` (C11 7.21.6.1).
    fn general(&self, value: f64, precision: usize) -> String {
        let precision = precision.max(1);
        let scientific = exponent(value, precision - 1);
        let power: i32 = scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0);
        let fixed = (-4..precision as i32).contains(&power);
        let text = if fixed { format!("{value:.*}", (precision as i32 - 1 - power) as usize) } else { scientific };
        if self.alternate {
            return text;
        }
        let (mantissa, tail) = match text.find('e') {
            Some(at) => text.split_at(at),
            None => (text.as_str(), ""),
        };
        let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        format!("{mantissa}{tail}")
    }
}

/// `1.500000e+01`
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// `0x1.8p+3`
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    if value == 0.0 {
        let zeros = "0".repeat(precision.unwrap_or(0));
        return if zeros.is_empty() { "0x0p+0".into() } else { format!("0x0.{zeros}p+0") };
    }
    let bits = value.to_bits();
    let (mut power, mut fraction) = ((bits >> 52) as i64 & 0x7ff, bits & ((1 << 52) - 1));
    let mut lead = u64::from(power != 0);
    power = if power == 0 { -1022 } else { power - 1023 };
    let mut digits = 13;
    if let Some(wanted) = precision.filter(|wanted| *wanted < 13) {
        // Round half to even at the last digit kept.
        let drop = 4 * (13 - wanted) as u32;
        let all = (lead << 52) | fraction;
        let (kept, lost) = (all >> drop, all & ((1 << drop) - 1));
        let half = 1 << (drop - 1);
        let kept = kept + u64::from(lost > half || (lost == half && kept & 1 == 1));
        let all = kept << drop;
        (lead, fraction, digits) = (all >> 52, all & ((1 << 52) - 1), wanted);
    }
    let mut text = format!("{fraction:013x}")[..digits].to_string();
    match precision {
        None => text = text.trim_end_matches('0').to_string(),
        Some(wanted) => text = format!("{text:0<wanted$}"),
    }
    let point = if text.is_empty() { "" } else { "." };
    format!("0x{lead}{point}{text}p{power:+}")
}

#[cfg(test)]
mod tests {
    use super::Spec;

    fn show(format: &str, bits: u64) -> String {
        let (spec, _) = Spec::parse(format).expect("a conversion");
        if "diuxXoc".contains(spec.kind) { spec.integer(bits) } else { spec.float(f64::from_bits(bits)) }
    }

    #[test]
    fn integers_print_as_in_c() {
        let minus = (-5i32) as u32 as u64;
        for (format, bits, want) in [
            ("d", minus, "-5"),
            ("u", minus, "4294967291"),
            ("5d", minus, "   -5"),
            ("-5d|", minus, "-5   "),
            ("05d", minus, "-0005"),
            ("+d", 7, "+7"),
            (" d", 7, " 7"),
            (".3d", 7, "007"),
            ("8.3d", minus, "    -005"),
            ("lld", (-1i64) as u64, "-1"),
            ("hhd", 0x1ff, "-1"),
            ("hu", 0x1_0002, "2"),
            ("#x", 255, "0xff"),
            ("#010X", 255, "0X000000FF"),
            ("o", 8, "10"),
            ("c", 65, "A"),
            ("3c", 65, "  A"),
        ] {
            assert_eq!(show(format, bits), want, "%{format}");
        }
    }

    #[test]
    fn floats_print_as_in_c() {
        for (format, value, want) in [
            ("f", 1.5, "1.500000"),
            (".2f", -0.125, "-0.12"),
            ("8.1f", 2.25, "     2.2"),
            ("08.1f", -2.25, "-00002.2"),
            ("e", 12345.678, "1.234568e+04"),
            (".0e", 2.5, "2e+00"),
            ("g", 100_000.0, "100000"),
            ("g", 1_000_000.0, "1e+06"),
            ("g", 0.0001, "0.0001"),
            ("g", 0.00001, "1e-05"),
            (".3g", 1234.0, "1.23e+03"),
            ("G", 1e-10, "1E-10"),
            ("a", 12.0, "0x1.8p+3"),
            ("a", 1.0, "0x1p+0"),
            (".1a", 1.96875, "0x2.0p+0"),
            ("f", f64::INFINITY, "inf"),
            ("5f", f64::NAN, "  nan"),
            ("+f", 0.0, "+0.000000"),
        ] {
            assert_eq!(show(format, value.to_bits()), want, "%{format}");
        }
    }
}
