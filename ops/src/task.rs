//! Tasks: one problem of an op without its tensors, as `gen explain` and `gen tune` are given it and as dispatch tables see it.

use crate::ask::Ask;
use crate::error::{Fail, Res, bad_input, failure, usage};
use std::collections::BTreeMap;
use tilewright_autotune::task::Task;
use tilewright_autotune::workload;
use tilewright_runtime::expr::{VarId, Vars};

/// Tokens of a page where nobody says.
const PAGE: i64 = 64;

/// A field of a class: its key, and what it is where nobody says.
type Field = (&'static str, &'static str);

const GEMM: [Field; 6] = [("a", "bf16"), ("b", "nk"), ("out", ""), ("act", "none"), ("bias", "0"), ("residual", "0")];
/// Written where they are given only, in this order.
const GEMM_MORE: [&str; 6] = ["b_dtype", "weight", "a_scale", "b_scale", "groups", "quant"];
const ATTENTION: [Field; 13] = [
    ("dtype", "bf16"),
    ("out", ""),
    ("d", "128"),
    ("dv", ""),
    ("causal", "0"),
    ("window", "0"),
    ("chunk", "0"),
    ("softcap", "0"),
    ("alibi", "0"),
    ("sink", "0"),
    ("bias", "none"),
    ("varlen", "0"),
    ("sparse", "none"),
];
/// The last field of decode, in place of the last three of the forward.
const SELECT: Field = ("select", "none");

/// The task that `key=value` texts describe: `class=..` or the fields of the class, and the sizes.
///
/// Fields are spelled as in classes (`act=swiglu`, `a_scale=block`, `weight=int4g128`) or as `gen run` has them (`causal=true`,
/// `window_left=512`, `weight=packed` with `bits`, `group` and `zero`); what is not said is as in the plainest class of the op.
///
/// # Errors
/// An op that is not tuned; a key nobody knows, or whose value is none; sizes that are missing.
pub fn of_keys(op: &str, set: &[String]) -> Res<Task> {
    let mut keys = BTreeMap::new();
    let ask = Ask::new(set, BTreeMap::new())?;
    for name in ask.keys() {
        keys.insert(name.to_string(), ask.key(name).unwrap_or_default().to_string());
    }
    // `chunk=1` says that there are chunks, `chunk=512` also of how many tokens.
    let says_no_size = |v: &String| ["0", "1", "true", "false"].contains(&v.as_str());
    let chunk = keys.get("chunk").cloned();
    if chunk.as_ref().is_some_and(says_no_size) {
        keys.remove("chunk");
    }
    let mut sizes = sizes(op, &mut keys)?;
    keys.extend(chunk.map(|v| ("chunk".to_string(), v)));
    for side in ["window_left", "window_right"].into_iter().filter(|side| sizes.contains_key(*side)) {
        keys.entry("window".into()).or_insert_with(|| side.into());
    }
    let class = match keys.remove("class") {
        Some(class) => class,
        None => match op {
            "gemm" | "gemm_grouped" => gemm_class(op, &mut keys)?,
            "attention" | "attention_decode" => attention_class(op, &mut keys)?,
            // Named by the check below.
            _ => String::new(),
        },
    };
    if op == "attention_decode" {
        let page = *sizes.entry("page".into()).or_insert(PAGE);
        if let Some(tokens) = keys.remove("tokens") {
            let tokens = number("tokens", &tokens)?;
            sizes.entry("max_pages".into()).or_insert((tokens - 1) / page.max(1) + 1);
        }
        sizes.entry("sq".into()).or_insert(1);
    }
    let task = workload::task(op, &class, sizes).map_err(|e| match e.key.as_str() {
        "op" | "class" => Fail::Usage(e.to_string()),
        _ => Fail::Usage(format!("--set {e}")),
    })?;
    match keys.keys().next() {
        Some(stranger) => usage(format!("unknown key `{stranger}`: expected class, {}", known(op).join(", "))),
        None => Ok(task),
    }
}

/// Keys that [`of_keys`] takes for an op.
fn known(op: &str) -> Vec<&'static str> {
    let class: Vec<&str> = match op {
        "gemm" | "gemm_grouped" => GEMM.iter().map(|f| f.0).chain(GEMM_MORE).chain(["bits", "group", "zero"]).collect(),
        "attention" => ATTENTION.iter().map(|f| f.0).collect(),
        _ => ATTENTION[..10].iter().map(|f| f.0).chain([SELECT.0, "tokens"]).collect(),
    };
    workload::sizes_of(op).into_iter().chain(class).collect()
}

fn number(key: &str, text: &str) -> Res<i64> {
    let expected = || Fail::Usage(format!("--set {key}={text}: expected a whole number from 1"));
    text.parse().ok().filter(|n| *n >= 1).ok_or_else(expected)
}

fn sizes(op: &str, keys: &mut BTreeMap<String, String>) -> Res<BTreeMap<String, i64>> {
    let named = workload::sizes_of(op).into_iter().filter_map(|name| Some((name, keys.remove(name)?)));
    named.map(|(name, text)| Ok((name.to_string(), number(name, &text)?))).collect()
}

/// `1` or `0` of what classes and `gen run` write.
fn flag(text: String) -> String {
    match text.as_str() {
        "true" => "1".into(),
        "false" => "0".into(),
        _ => text,
    }
}

fn gemm_class(op: &str, keys: &mut BTreeMap<String, String>) -> Res<String> {
    let mut fields = Vec::new();
    let mut input = String::new();
    for (key, other) in GEMM {
        let value = keys.remove(key).map_or_else(|| other.to_string(), |v| if other == "0" { flag(v) } else { v });
        let value = match (key, value.as_str()) {
            // As `gen run` has it: what comes in of 16 bits goes out.
            ("out", "") if ["bf16", "f16"].contains(&input.as_str()) => input.clone(),
            ("out", "") => "bf16".into(),
            _ => value,
        };
        if key == "a" {
            input.clone_from(&value);
        }
        fields.push(format!("{key}={value}"));
    }
    if keys.get("weight").is_some_and(|w| w == "packed") {
        let mut need = |key: &str| {
            keys.remove(key).ok_or_else(|| Fail::Usage(format!("key `{key}` is missing: weight=packed needs bits, group, zero")))
        };
        let (bits, group, zero) = (need("bits")?, need("group")?, flag(need("zero")?));
        keys.insert("weight".into(), format!("int{bits}g{group}{}", if zero == "1" { "z" } else { "" }));
    }
    if op == "gemm_grouped" {
        keys.entry("groups".into()).or_insert_with(|| "offsets".into());
    }
    fields.extend(GEMM_MORE.iter().filter_map(|key| Some(format!("{key}={}", keys.remove(*key)?))));
    Ok(fields.join(","))
}

fn attention_class(op: &str, keys: &mut BTreeMap<String, String>) -> Res<String> {
    // `gen run` gives tokens and numbers where a class says that there are such.
    for key in ["window", "chunk", "softcap"] {
        let given = keys.get(key).is_some_and(|v| v.starts_with("window_") || v.parse::<f64>().is_ok_and(|v| v > 0.0));
        if given {
            keys.insert(key.into(), "1".into());
        }
    }
    let mut list = ATTENTION.to_vec();
    if op == "attention_decode" {
        list.truncate(10);
        list.push(SELECT);
    }
    let mut fields = Vec::new();
    let (mut dtype, mut d) = (String::new(), String::new());
    for (key, other) in list {
        let value = keys.remove(key).map_or_else(|| other.to_string(), |v| if other == "0" { flag(v) } else { v });
        let value = match (key, value.as_str(), d.as_str()) {
            ("out", "", _) => dtype.clone(),
            // The one pair of head dims that differ.
            ("dv", "", "192") => "128".into(),
            ("dv", "", _) => d.clone(),
            _ => value,
        };
        match key {
            "dtype" => dtype.clone_from(&value),
            "d" => d.clone_from(&value),
            _ => {}
        }
        fields.push(format!("{key}={value}"));
    }
    Ok(fields.join(","))
}

/// The variables of a task, as `gen run` sets them for tensors of these sizes: those that dispatch looks at among them. Without
/// `sms`.
pub fn vars(task: &Task) -> Res<Vars> {
    let size = |name: &str| task.size(name).ok_or_else(|| bad_input(format!("{task}: size {name} is missing")));
    let mut list: Vec<(&str, i64)> = Vec::new();
    match task.op.as_str() {
        // Queries, keys, heads of all sequences.
        "attention" => list.extend([("m", size("sq")?), ("n", size("sk")?), ("k", size("batch")? * size("hq")?)]),
        // Key heads of all sequences, tokens of a sequence at most, tokens of a page.
        "attention_decode" => {
            let (page, pages) = (size("page")?, size("max_pages")?);
            list.extend([("m", size("batch")? * size("hkv")?), ("n", pages * page), ("k", page)]);
            list.extend([("pages", size("batch")? * pages), ("n_select", 0), ("splits", 0), ("split_size", 0)]);
        }
        "gemm_grouped" if task.class.contains(",gather=1") => list.push(("rows", size("tokens")?)),
        _ => {}
    }
    // An op's own sizes last: what a task names m, n or k is that.
    let mut vars = Vars::new();
    for (name, value) in list.into_iter().chain(task.sizes.iter().map(|(n, v)| (n.as_str(), *v))) {
        vars.set(VarId::of(name), value).map_err(failure)?;
    }
    if task.op == "gemm" && task.size("batch").is_none() {
        vars.set(VarId::BATCH, 1).map_err(failure)?;
    }
    Ok(vars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tilewright_autotune::workload::Workload;

    fn task(op: &str, set: &str) -> Res<Task> {
        of_keys(op, &set.split(' ').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn keys_make_the_class_that_plans_have() {
        for (op, set, text) in [
            ("gemm", "m=16 n=4096 k=512", "gemm a=bf16,b=nk,out=bf16,act=none,bias=0,residual=0 k=512 m=16 n=4096"),
            (
                "gemm",
                "m=1 n=8 k=8 a=e4m3 a_scale=row b_scale=row bias=true",
                "out=bf16,act=none,bias=1,residual=0,a_scale=row,b_scale=row ",
            ),
            (
                "gemm",
                "m=1 n=8 k=8 a=f16 weight=packed bits=4 group=128 zero=true",
                "a=f16,b=nk,out=f16,act=none,bias=0,residual=0,weight=int4g128z ",
            ),
            (
                "gemm_grouped",
                "tokens=100 e=8 n=64 k=64 act=swiglu",
                "act=swiglu,bias=0,residual=0,groups=offsets e=8 k=64 m=13 n=64 tokens=100",
            ),
            (
                "attention",
                "batch=1 sq=512 hq=32 hkv=8 causal=true d=192",
                "d=192,dv=128,causal=1,window=0,chunk=0,softcap=0,alibi=0,sink=0,bias=none,varlen=0,sparse=none batch=1 hkv=8 hq=32 sk=512 sq=512",
            ),
            (
                "attention",
                "batch=1 sq=512 hq=8 hkv=8 window_left=100 softcap=30",
                "sparse=none batch=1 hkv=8 hq=8 sk=512 sq=512 window_left=100",
            ),
            (
                "attention",
                "batch=1 sq=512 hq=8 hkv=8 window_left=100 softcap=30 chunk=true",
                "causal=0,window=1,chunk=1,softcap=1",
            ),
            ("attention", "batch=1 sq=512 hq=8 hkv=8 chunk=64", "sparse=none batch=1 chunk=64 hkv=8"),
            (
                "attention_decode",
                "batch=4 hq=32 hkv=8 tokens=1000",
                "sink=0,select=none batch=4 hkv=8 hq=32 max_pages=16 page=64 sq=1",
            ),
        ] {
            let told = task(op, set).unwrap_or_else(|e| panic!("{set}: {e}")).to_string();
            assert!(told.contains(text), "{told}");
        }
    }

    #[test]
    fn what_is_wrong_with_keys_is_one_line_that_names_the_key() {
        for (op, set, why) in [
            ("gemm", "m=16 n=4096", "--set k: missing: gemm needs m, n, k"),
            ("gemm", "m=0 n=1 k=1", "--set m=0: expected a whole number from 1"),
            ("gemm", "m=1 n=1 k=1 acts=relu", "unknown key `acts`: expected class, m, n, k, batch, a, b, out, act"),
            ("gemm", "m=1 n=1 k=1 act=tanh", "class: act = `tanh`"),
            ("gemm", "m=1 n=1 k=1 weight=packed", "key `bits` is missing"),
            ("attention", "batch=1 sq=1 hq=3 hkv=2", "--set hq: 3 query heads are no multiple of hkv = 2"),
            ("attention", "batch=1 sq=1 hq=2 hkv=2 d=100", "class: d = 100"),
            ("quantize", "m=1", "op: `quantize`: expected one of gemm, gemm_grouped"),
        ] {
            let told = task(op, set).unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn every_task_of_the_shipped_workloads_has_a_kernel_and_what_dispatch_looks_at() {
        for name in workload::names() {
            let tasks = Workload::named(name).unwrap().tasks();
            let mut classes: Vec<(&str, &str)> = tasks.iter().map(|(t, _)| (t.op.as_str(), t.class.as_str())).collect();
            classes.dedup();
            for (op, class) in classes {
                // The op's own reader of classes, by way of a config nobody has: the class is right where the config is what is wrong.
                let family = crate::find(op).unwrap();
                if op != "sparse_network" {
                    let error = (family.kernel)(tilewright_ir::Arch::Sm90a, class, "kind=none").err().unwrap().to_string();
                    assert!(error.contains("kind"), "{name}: {class}: {error}");
                }
            }
            for (task, _) in tasks.iter().filter(|t| t.0.op != "sparse_network") {
                let vars = vars(task).unwrap();
                assert!([VarId::M, VarId::N, VarId::K].iter().all(|v| vars.get(*v).is_some()), "{task}");
            }
        }
    }
}
