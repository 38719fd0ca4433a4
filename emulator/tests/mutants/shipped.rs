//! Shipped GEMM kernels, launched as their manifest says.

use crate::common::numbers::{Numbers, bf16_bytes, f32_bytes, reference};
use crate::common::spec::{Content, Element, Param, Spec, Want};
use crate::good::{Good, Source};
use serde_json::Value;
use tilewright_emulator::tensor::swizzle::Swizzle;
use tilewright_emulator::tensor::tma::{Interleave, OobFill, TensorDType};
use tilewright_emulator::{Launch, TensorMap};
use tilewright_runtime::device::ImageKind;
use tilewright_runtime::pack::Pack;

/// What is run: a shape that gives every block several tiles, and every tile more k-blocks than there are stages.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    pub id: &'static str,
    pub batch: usize,
    pub shape: [usize; 3],
    pub splits: usize,
    pub sms: u32,
}

/// The kernel of a target, `sm80` or `sm90`.
pub fn kernel(target: &str, problem: Problem) -> Good {
    let folder = format!("{}/../kernels-generated/{target}", env!("CARGO_MANIFEST_DIR"));
    let pack = Pack::open(&folder).unwrap_or_else(|error| panic!("{error}"));
    let (_, text) = pack
        .manifest()
        .kernel(problem.id)
        .map(|at| pack.image(&pack.manifest().kernels[at], ImageKind::Ptx).unwrap_or_else(|error| panic!("{error}")))
        .unwrap_or_else(|| panic!("no kernel {}", problem.id));
    let text = String::from_utf8(text.into_owned()).expect("text");
    let manifest = std::fs::read_to_string(format!("{folder}/manifest.json")).expect("the manifest beside the pack");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let kernels = manifest["kernels"].as_array().expect("kernels");
    let entry = kernels.iter().find(|kernel| kernel["id"] == problem.id).unwrap_or_else(|| panic!("no kernel {}", problem.id));
    let stages = entry["config"]["stages"].as_str().and_then(|stages| stages.parse().ok());
    let name = problem.id.trim_start_matches("gemm_").to_string();
    let spec = spec(format!("{target}/{name}"), text, entry, problem);
    Good { name: spec.name.clone(), source: Source::Spec(Box::new(spec)), stages: stages.into_iter().collect(), sms: problem.sms }
}

/// The variables of expressions.
struct Sizes(Problem);

impl Sizes {
    fn of(&self, name: &str) -> u64 {
        let Problem { batch, shape: [m, n, k], splits, sms, .. } = self.0;
        match name {
            "m" => m as u64,
            "n" => n as u64,
            "k" => k as u64,
            "batch" => batch as u64,
            "splits" => splits as u64,
            "sms" => u64::from(sms),
            number => number.parse().unwrap_or_else(|_| panic!("no variable {number}")),
        }
    }

    /// Products and quotients of variables, numbers, `ceil_div(a,b)` and `min(a,b)`, left to right.
    fn eval(&self, text: &str) -> u64 {
        let (mut value, mut op, mut depth, mut start) = (1, '*', 0, 0);
        for (at, c) in text.char_indices().chain([(text.len(), '*')]) {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                '*' | '/' if depth == 0 => {
                    let term = self.term(&text[start..at]);
                    value = if op == '*' { value * term } else { value / term };
                    (op, start) = (c, at + 1);
                }
                _ => {}
            }
        }
        value
    }

    fn term(&self, text: &str) -> u64 {
        let Some((name, arguments)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            return self.of(text);
        };
        let arguments: Vec<u64> = crate::text::split(&arguments.replace('(', "{").replace(')', "}"))
            .iter()
            .map(|argument| self.eval(&argument.replace('{', "(").replace('}', ")")))
            .collect();
        match name {
            "ceil_div" => arguments[0].div_ceil(arguments[1]),
            "min" => arguments[0].min(arguments[1]),
            other => panic!("no function {other}"),
        }
    }
}

const ALPHA: f32 = 0.75;

fn spec(name: String, text: String, entry: &Value, problem: Problem) -> Spec {
    let sizes = Sizes(problem);
    let Problem { batch, shape: [m, n, k], splits, .. } = problem;
    let reduces = problem.id.contains("_reduce_");
    let gated = problem.id.contains("_swiglu_");
    let wide = if gated { 2 * n } else { n };
    let mut numbers = Numbers(11);
    let (a, b) = (numbers.take(batch * m * k), numbers.take(batch * wide * k));
    let partial = numbers.take(if reduces { splits * batch * m * n } else { 0 });
    let (bias, residual) = (numbers.take(wide), numbers.take(batch * m * n));
    let f32_out = problem.id.contains("bf16_f32");
    let split = problem.id.ends_with("_split");
    let mut values = Vec::new();
    for z in 0..batch {
        let b = &b[z * wide * k..][..wide * k];
        let sums = reference(&a[z * m * k..][..m * k], &transposed_if(problem.id, b, wide, k), [m, wide, k]);
        for at in 0..m * n {
            let (row, col) = (at / n, at % n);
            let sum = if reduces {
                (0..splits).map(|part| partial[(part * batch + z) * m * n + at]).sum()
            } else {
                sums[row * wide + col]
            };
            let mut value = if split { sum } else { ALPHA * sum };
            if problem.id.contains("_bias_") {
                value += bias[col];
            }
            if problem.id.contains("_res_") {
                value += residual[z * m * n + at];
            }
            if problem.id.contains("_relu_") {
                value = value.max(0.0);
            }
            if gated {
                value = value / (1.0 + (-value).exp()) * ALPHA * sums[row * wide + n + col];
            }
            values.push(if f32_out || gated { value } else { half::bf16::from_f32(value).to_f32() });
        }
    }
    let tensors = ["a", "b", "bias", "residual", "partial", "d"];
    let parts = if split { splits } else { 1 };
    let out_bytes = (parts * batch * m * n * if f32_out { 4 } else { 2 }) as u64;
    let buffers = vec![
        Content::Bytes(bf16_bytes(&a)),
        Content::Bytes(bf16_bytes(&b)),
        Content::Bytes(bf16_bytes(&bias)),
        Content::Bytes(bf16_bytes(&residual)),
        Content::Bytes(f32_bytes(&partial)),
        Content::Undefined(out_bytes),
    ];
    let buffer = |kind: &Value| tensors.iter().position(|name| kind["tensor"] == *name).expect("a known tensor");
    let param = |param: &Value| {
        let kind = &param["kind"];
        match kind.as_object().and_then(|kinds| kinds.iter().next()).map(|(name, value)| (name.as_str(), value)) {
            Some(("i32", value)) => Param::U32(sizes.of(value["value"].as_str().expect("a variable")) as u32),
            Some(("f32", _)) => Param::F32(ALPHA),
            Some(("ptr", value)) => Param::Buffer(buffer(value)),
            Some(("tensor_map", value)) => Param::Map(buffer(value), map(value, &sizes)),
            other => panic!("no parameter {other:?}"),
        }
    };
    let triple = |value: &Value| -> [u32; 3] { std::array::from_fn(|axis| value[axis].as_u64().expect("a number") as u32) };
    let launch = &entry["launch"];
    Spec {
        name,
        text,
        launch: Launch {
            entry: entry["entry"].as_str().expect("a name").into(),
            grid: std::array::from_fn(|axis| sizes.eval(launch["grid"][axis].as_str().expect("an expression")) as u32),
            block: triple(&launch["block"]),
            cluster: triple(&launch["cluster"]),
            dynamic_shared_bytes: launch["shared_bytes"].as_u64().expect("bytes") as u32,
            args: Vec::new(),
        },
        buffers,
        params: entry["params"].as_array().expect("parameters").iter().map(param).collect(),
        want: Want {
            buffer: 5,
            element: if f32_out { Element::F32 } else { Element::Bf16 },
            values,
            parts,
            tolerance: if gated { 1.0 / 64.0 } else { 0.0 },
        },
    }
}

/// `b` as `[n, k]`: kernels with `_kn_` take it as `[k, n]`.
fn transposed_if(id: &str, b: &[f32], n: usize, k: usize) -> Vec<f32> {
    if id.contains("_kn_") { (0..n * k).map(|at| b[at % k * n + at / k]).collect() } else { b.to_vec() }
}

fn map(value: &Value, sizes: &Sizes) -> TensorMap {
    let list = |name: &str| value[name].as_array().expect("a list").iter();
    let expressions = |name: &str| list(name).map(|e| sizes.eval(e.as_str().expect("an expression"))).collect();
    let numbers = |name: &str| list(name).map(|e| e.as_u64().expect("a number") as u32).collect();
    let word = |name: &str| value[name].as_str().expect("a word");
    TensorMap {
        dtype: match word("dtype") {
            "bf16" => TensorDType::Bf16,
            "f32" => TensorDType::F32,
            other => panic!("no type {other}"),
        },
        base: 0,
        dims: expressions("dims"),
        strides: expressions("strides"),
        box_dims: numbers("box"),
        element_strides: numbers("element_strides"),
        swizzle: match word("swizzle") {
            "128B" => Swizzle::B128,
            "64B" => Swizzle::B64,
            "32B" => Swizzle::B32,
            _ => Swizzle::None,
        },
        interleave: Interleave::None,
        oob_fill: OobFill::Zero,
    }
}
