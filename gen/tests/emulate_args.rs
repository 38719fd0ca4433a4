//! `gen emulate`: each kind of argument, and each way to get it wrong.

use crate::common::emulation::*;
use safetensors::tensor::Dtype;
use std::fmt::Write;

/// Writes the bytes of its second parameter to `out`.
fn dump(declaration: &str, bytes: usize) -> String {
    let mut body = String::new();
    for i in 0..bytes {
        writeln!(body, "ld.param.u8 %h1, [v+{i}];\nst.global.u8 [%rd1+{i}], %h1;").unwrap();
    }
    module(&format!(
        ".visible .entry k(.param .u64 out, {declaration}) {{\n.reg .b16 %h<2>;\n.reg .b64 %rd<2>;\n\
         ld.param.u64 %rd1, [out];\n{body}ret;\n}}\n"
    ))
}

fn launch(arg: &str, bytes: usize) -> String {
    format!(
        r#"{{"entry":"k","grid":[1,1,1],"block":[1,1,1],"args":[{{"tensor":"out"}},{arg}],
            "alloc":{{"out":{{"dtype":"U8","shape":[{bytes}]}}}},"outputs":["out"]}}"#
    )
}

/// The parameter's bytes as the kernel sees them.
fn seen(declaration: &str, bytes: usize, arg: &str) -> Vec<u8> {
    emulate(&dump(declaration, bytes), &launch(arg, bytes), &[x()], &[]).bytes("out")
}

#[test]
fn scalars_arrive_bit_by_bit() {
    let rows: [(&str, &str, Vec<u8>); 13] = [
        (".param .u32 v", r#"{"i32":-2}"#, (-2i32).to_le_bytes().into()),
        (".param .s32 v", r#"{"i32":-2147483648}"#, i32::MIN.to_le_bytes().into()),
        (".param .u32 v", r#"{"i32":4294967295}"#, u32::MAX.to_le_bytes().into()),
        (".param .u64 v", r#"{"u64":18446744073709551615}"#, u64::MAX.to_le_bytes().into()),
        (".param .f32 v", r#"{"f32":-0.0}"#, (-0.0f32).to_le_bytes().into()),
        (".param .f32 v", r#"{"f32":0.1}"#, 0.1f32.to_le_bytes().into()),
        (".param .f32 v", r#"{"f32":3}"#, 3f32.to_le_bytes().into()),
        (".param .u64 v", r#"{"null":true}"#, vec![0; 8]),
        (".param .b16 v", r#"{"bytes":"3C00"}"#, vec![0x3c, 0]),
        (".param .u8 v", r#"{"bytes":"7f"}"#, vec![0x7f]),
        (".param .s64 v", r#"{"bytes":"feffffffffffffff"}"#, (-2i64).to_le_bytes().into()),
        (".param .f64 v", r#"{"bytes":"000000000000F03F"}"#, 1f64.to_le_bytes().into()),
        (".param .align 4 .b8 v[12]", r#"{"bytes":"0102030405060708090a0b0c"}"#, (1..13).collect()),
    ];
    for (declaration, arg, want) in rows {
        assert_eq!(seen(declaration, want.len(), arg), want, "{declaration} {arg}");
    }
}

#[test]
fn tensors_are_addresses_on_256_byte_boundaries() {
    let address = |arg: &str| u64::from_le_bytes(seen(".param .u64 v", 8, arg).try_into().unwrap());
    let start = address(r#"{"tensor":"x"}"#);
    assert!(start != 0 && start.is_multiple_of(256), "{start:#x}");
    assert_eq!(address(r#"{"tensor":"x","offset":64}"#), start + 64);
    assert_eq!(address(r#"{"tensor":"x","offset":256}"#), start + 256, "the end is an address too");
    let arg = r#"{"bytes":"111111111111111100000000000000002222222222222222","pointers":{"8":"x"}}"#;
    let bytes = seen(".param .align 8 .b8 v[24]", 24, arg);
    assert_eq!((&bytes[..8], &bytes[16..]), (&[0x11; 8][..], &[0x22; 8][..]));
    assert_eq!(bytes[8..16], start.to_le_bytes());
}

#[test]
fn nothing_is_accessible_around_a_tensor() {
    let ptx = module(
        ".visible .entry k(.param .u64 v) {\n.reg .b32 %r<2>;\n.reg .b64 %rd<2>;\nld.param.u64 %rd1, [v];\n\
         ld.global.b32 %r1, [%rd1];\nret;\n}\n",
    );
    let x = ("x", Dtype::U8, vec![8], vec![1; 8]);
    let at = |offset: i64| {
        let code = ptx.replace("[%rd1]", &format!("[%rd1+{offset}]"));
        let launch = r#"{"entry":"k","grid":[1,1,1],"block":[1,1,1],"args":[{"tensor":"x"}]}"#;
        emulate(&code, launch, std::slice::from_ref(&x), &[])
    };
    assert_eq!(at(4).code, 0);
    for offset in [-256, -4, 8, 16, 256, 4096] {
        let r = at(offset);
        assert!(r.code == 1 && r.line.contains("oob") && r.line.contains("`x`"), "{offset}: {}", r.line);
    }
}

/// Thread 0 brings a box of `map` at (4, 2) to shared memory; thread i writes element i of it to `y`.
fn tile(map_parameter: &str, map_address: &str) -> String {
    module(&format!(
        ".visible .entry k({map_parameter}, .param .u64 y) {{
.reg .pred %p<3>;
.reg .b32 %r<10>;
.reg .b64 %rd<6>;
.shared .align 128 .b8 box[64];
.shared .align 8 .b8 full[8];
mov.u32 %r1, %tid.x;
mov.u32 %r2, full;
mov.u32 %r3, box;
mov.u32 %r8, 4;
mov.u32 %r9, 2;
setp.ne.u32 %p1, %r1, 0;
@%p1 bra ready;
mbarrier.init.shared.b64 [%r2], 1;
fence.mbarrier_init.release.cluster;
mbarrier.arrive.expect_tx.shared.b64 _, [%r2], 64;
{map_address}
cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r3], [%rd1, {{%r8, %r9}}], [%r2];
ready:
bar.sync 0;
wait:
mbarrier.try_wait.parity.shared.b64 %p2, [%r2], 0;
@!%p2 bra wait;
shl.b32 %r5, %r1, 2;
add.u32 %r6, %r3, %r5;
ld.shared.b32 %r7, [%r6];
ld.param.u64 %rd2, [y];
cvt.u64.u32 %rd3, %r5;
add.s64 %rd4, %rd2, %rd3;
st.global.b32 [%rd4], %r7;
ret;
}}
"
    ))
}

const BY_VALUE: (&str, &str) = (".param .align 64 .b8 map[128]", "mov.b64 %rd1, map;\ncvta.param.u64 %rd1, %rd1;");
const BEHIND_POINTER: (&str, &str) = (".param .u64 map", "ld.param.u64 %rd1, [map];");

fn map_launch(map: &str) -> String {
    format!(
        r#"{{"entry":"k","grid":[1,1,1],"block":[16,1,1],"args":[{{"tensor_map":{map}}},{{"tensor":"y"}}],
            "alloc":{{"y":{{"dtype":"I32","shape":[16]}}}},"outputs":["y"]}}"#
    )
}

/// 8 x 8 integers: element (row, column) is 8 row + column.
fn square() -> Input<'static> {
    ("x", Dtype::I32, vec![8, 8], i32s(0..64))
}

#[test]
fn tensor_maps_are_parameters_or_behind_a_pointer() {
    let want = i32s((2..6).flat_map(|row| (4..8).map(move |column| 8 * row + column)));
    for (parameter, address) in [BY_VALUE, BEHIND_POINTER] {
        for more in ["", r#","element_strides":[1,1],"swizzle":"none","interleave":"none","oob":"zero""#, r#","dtype":"U32""#] {
            let map = format!(r#"{{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4]{more}}}"#);
            let r = emulate(&tile(parameter, address), &map_launch(&map), &[square()], &["--schedules", "2"]);
            assert_eq!(r.bytes("y"), want, "{parameter} {more}");
        }
    }
}

#[test]
fn tensor_maps_start_at_an_offset_and_fill_what_is_outside() {
    let (parameter, address) = BY_VALUE;
    let run = |map: &str, x: Input<'_>| emulate(&tile(parameter, address), &map_launch(map), &[x], &[]).bytes("y");
    let want = i32s((4..8).flat_map(|row| (4..8).map(move |column| 8 * row + column)));
    assert_eq!(run(r#"{"tensor":"x","offset":64,"dims":[8,6],"strides":[32],"box":[4,4]}"#, square()), want);
    // Two of the four columns are outside.
    let columns = |outside: u32| -> Vec<u8> {
        let row = |r: u32| [8 * r + 4, 8 * r + 5].map(|v| (v as f32).to_bits()).into_iter().chain([outside; 2]);
        (2..6).flat_map(row).flat_map(u32::to_le_bytes).collect()
    };
    let floats = || ("x", Dtype::F32, vec![8, 8], (0..64).flat_map(|i| (i as f32).to_le_bytes()).collect());
    let map = r#"{"tensor":"x","dims":[6,8],"strides":[32],"box":[4,4]}"#;
    assert_eq!(run(map, floats()), columns(0));
    let out = run(&map.replace("}", r#","oob":"nan"}"#), floats());
    let values: Vec<f32> = out.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    assert!(values.iter().enumerate().all(|(i, v)| v.is_nan() == (i % 4 >= 2)), "{values:?}");
}

#[test]
fn a_wrong_argument_is_named_with_what_was_expected() {
    let word = ".param .u32 v";
    let pointer = ".param .u64 v";
    let rows = [
        (word, r#"{"u64":1}"#, "argument 1 (parameter `v`): u64 is 8 bytes, the parameter is 4 bytes"),
        (word, r#"{"tensor":"x"}"#, "argument 1 (parameter `v`): tensor is 8 bytes, the parameter is 4 bytes"),
        (word, r#"{"null":true}"#, "null is 8 bytes, the parameter is 4 bytes"),
        (pointer, r#"{"i32":1}"#, "argument 1 (parameter `v`): i32 is 4 bytes, the parameter is 8 bytes"),
        (pointer, r#"{"f32":1}"#, "f32 is 4 bytes, the parameter is 8 bytes"),
        (pointer, r#"{"bytes":"0011"}"#, "bytes is 2 bytes, the parameter is 8 bytes"),
        (pointer, r#"{"bytes":"001"}"#, "bytes `001` are not pairs of hex digits"),
        (pointer, r#"{"bytes":"zz"}"#, "bytes `zz` are not pairs of hex digits"),
        (pointer, r#"{"bytes":"é"}"#, "are not pairs of hex digits"),
        (pointer, r#"{"bytes":"0000000000000000","pointers":{"1":"x"}}"#, "the 8 bytes of a pointer at 1 do not fit 8 bytes"),
        (pointer, r#"{"bytes":"0000000000000000","pointers":{"a":"x"}}"#, "pointer offset `a` is not a number"),
        (pointer, r#"{"bytes":"0000000000000000","pointers":{"0":"z"}}"#, "there is no tensor `z`"),
        (pointer, r#"{"bytes":"0000000000000000","pointers":{"18446744073709551615":"x"}}"#, "do not fit 8 bytes"),
        (pointer, r#"{"u64":1,"pointers":{"0":"x"}}"#, "`pointers` goes with bytes, not with u64"),
        (pointer, r#"{"u64":1,"offset":4}"#, "`offset` goes with tensor, not with u64"),
        (pointer, r#"{"tensor":"z"}"#, "there is no tensor `z`: expected one of the input file or of alloc"),
        (pointer, r#"{"tensor":"x","offset":257}"#, "offset 257 is past the end of tensor `x`, which has 256 bytes"),
        (pointer, r#"{"tensor":"x","offset":18446744073709551615}"#, "is past the end of tensor `x`"),
        (pointer, r#"{"tensor":"x","offset":-4}"#, "invalid value: integer `-4`"),
        (pointer, r#"{"tensor":"x","u64":1}"#, "expected exactly one of tensor, i32, u64, f32, null, bytes, tensor_map"),
        (pointer, "{}", "expected exactly one of tensor"),
        (pointer, r#"{"null":false}"#, "null is false: expected true"),
        (pointer, r#"{"u64":-1}"#, "invalid value: integer `-1`"),
        (pointer, r#"{"i64":1}"#, "unknown field `i64`"),
        (word, r#"{"i32":4294967296}"#, "i32 4294967296 does not fit 32 bits"),
        (word, r#"{"i32":1.5}"#, "invalid type: floating point `1.5`"),
        (word, r#"{"f32":"1"}"#, "invalid type: string"),
    ];
    for (declaration, arg, words) in rows {
        emulate(&dump(declaration, 4), &launch(arg, 4), &[x()], &[]).refused(words);
    }
    let ptx = dump(word, 4);
    emulate(&ptx, &launch(r#"{"i32":1},{"i32":2}"#, 4), &[x()], &[]).refused("`k` takes 2 parameters (out, v), args has 3");
    let none = r#"{"entry":"k","grid":[1,1,1],"block":[1,1,1]}"#;
    emulate(&ptx, none, &[x()], &[]).refused("`k` takes 2 parameters (out, v), args has 0");
}

#[test]
fn a_tensor_map_that_a_driver_would_refuse_is_refused() {
    let rows = [
        (r#"{"tensor":"z","dims":[8,8],"strides":[32],"box":[4,4]}"#, "there is no tensor `z`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32]}"#, "tensor_map needs `box`, or `im2col`"),
        (r#"{"tensor":"x","strides":[32],"box":[4,4]}"#, "missing field `dims`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[20],"box":[4,4]}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[],"box":[4,4]}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4]}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[257,4]}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","offset":8,"dims":[8,8],"strides":[32],"box":[4,4]}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","offset":300,"dims":[8,8],"strides":[32],"box":[4,4]}"#, "offset 300 is past the end of tensor `x`"),
        (
            r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"swizzle":"16B"}"#,
            "swizzle `16B`: expected one of none, 32B, 64B, 128B",
        ),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[16,4],"swizzle":"32B"}"#, "tensor_map of `x`"),
        (
            r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"interleave":"8B"}"#,
            "interleave `8B`: expected one of none, 16B, 32B",
        ),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"oob":"one"}"#, "oob `one`: expected one of zero, nan"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"oob":"nan"}"#, "tensor_map of `x`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"dtype":"Q8"}"#, "unknown dtype `Q8`"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"dtype":"F4"}"#, "tensor maps have no element type F4"),
        (r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4],"boxes":1}"#, "unknown field `boxes`"),
        (
            r#"{"tensor":"x","dims":[4,2,2,4],"strides":[16,32,64],"im2col":{"lower":[0],"upper":[0],"channels":4,"pixels":4}}"#,
            "1 lower corner coordinates for 2 spatial dimensions",
        ),
        (
            r#"{"tensor":"x","dims":[4,4],"strides":[16],"im2col":{"lower":[],"upper":[],"channels":4,"pixels":4}}"#,
            "im2col needs 3 to 5 dimensions, there are 2",
        ),
        (
            r#"{"tensor":"x","dims":[4,4,4],"strides":[16,64],"im2col":{"lower":[0],"upper":[0],"channels":257,"pixels":4}}"#,
            "257 channels are not between 1 and 256",
        ),
        (
            r#"{"tensor":"x","dims":[4,4,4],"strides":[16,64],"im2col":{"lower":[0],"upper":[0],"channels":4,"pixels":0}}"#,
            "0 pixels are not between 1 and 1024",
        ),
        (
            r#"{"tensor":"x","dims":[4,4,4],"strides":[16,64],"box":[4],"im2col":{"lower":[0],"upper":[0],"channels":4,"pixels":4}}"#,
            "`box` stands beside im2col",
        ),
    ];
    for (map, words) in rows {
        emulate(&tile(BY_VALUE.0, BY_VALUE.1), &map_launch(map), &[square()], &[]).refused(words);
    }
    let map = r#"{"tensor":"x","dims":[8,8],"strides":[32],"box":[4,4]}"#;
    let small = tile(".param .align 64 .b8 map[64]", BY_VALUE.1);
    emulate(&small, &map_launch(map), &[square()], &[]).refused(
        "argument 0 (parameter `map`): a tensor_map needs 128 bytes by value or an 8-byte pointer, the parameter is 64 bytes",
    );
}
