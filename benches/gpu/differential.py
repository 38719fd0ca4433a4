#!/usr/bin/env python3
"""Compares the emulator with an NVIDIA GPU: runs random programs whose answers the emulator wrote, and probes of what the
PTX ISA leaves open. Needs Python 3.10+ and the driver, nothing else.

  random   every program of `random/programs.json`: output bytes must be the emulator's
  probes   small kernels whose outputs nobody can know without a GPU: approximate functions, sums of the tensor cores, which
           lane `elect.sync` takes, boxes narrower than their swizzle, the fill of boxes outside of a tensor

The report (differential.json in --out, else $OUT, else here) is rewritten by rename after every program. Outputs of the
probes go to vectors.json beside it, in the form that emulator/tests/vectors replays. Exit status: 0 all equal, 1 a program
differs or fails, 2 wrong usage or something missing (one line says what).
"""

import argparse
import ctypes
import hashlib
import json
import os
import random
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REPORT, VECTORS = "differential.json", "vectors.json"

DTYPES = {"u8": 0, "u16": 1, "u32": 2, "s32": 3, "u64": 4, "s64": 5, "f16": 6, "f32": 7, "f64": 8, "bf16": 9}
SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}


def quit_with(why):
    print(f"differential.py: {why}", file=sys.stderr)
    sys.exit(2)


class Failed(Exception):
    """A call of the driver that did not work."""


class Driver:
    """What is needed of libcuda."""

    def __init__(self, library, ordinal):
        try:
            self.lib = ctypes.CDLL(library)
        except OSError as error:
            quit_with(f"no CUDA driver: {error}")
        self.call("cuInit", 0)
        device = ctypes.c_int()
        self.call("cuDeviceGet", ctypes.byref(device), ordinal)
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, 256, device)
        self.name = name.value.decode()
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
        self.call("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
        self.sm = 10 * major.value + minor.value
        version = ctypes.c_int()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name, *args):
        status = getattr(self.lib, name)(*args)
        if status != 0:
            text = ctypes.c_char_p()
            self.lib.cuGetErrorString(status, ctypes.byref(text))
            raise Failed(f"{name}: {(text.value or b'unknown error').decode()} ({status})")

    def load(self, text):
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        log = ctypes.create_string_buffer(8192)
        options = (ctypes.c_int * 2)(5, 6)  # CU_JIT_ERROR_LOG_BUFFER and its size
        values = (ctypes.c_void_p * 2)(ctypes.addressof(log), ctypes.c_void_p(len(log)))
        try:
            self.call("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(text), 2, options, values)
        except Failed as error:
            raise Failed(f"{error}: {log.value.decode(errors='replace').strip()[:2000]}") from None
        self.call("cuModuleGetFunction", ctypes.byref(function), module, b"k")
        return module, function

    def memory(self, data):
        """Device memory that holds `data`, on a 256-byte boundary."""
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(len(data), 1)))
        self.call("cuMemcpyHtoD_v2", pointer, ctypes.c_char_p(data), ctypes.c_size_t(len(data)))
        return pointer.value

    def read(self, pointer, count):
        data = ctypes.create_string_buffer(count)
        self.call("cuMemcpyDtoH_v2", data, ctypes.c_uint64(pointer), ctypes.c_size_t(count))
        return data.raw

    def free(self, pointer):
        self.call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def tensor_map(self, spec, base):
        encoded = (ctypes.c_uint64 * 32)()
        # The encoder wants 64-byte alignment.
        address = (ctypes.addressof(encoded) + 63) // 64 * 64
        rank = len(spec["dims"])
        self.call(
            "cuTensorMapEncodeTiled", ctypes.c_void_p(address), DTYPES[spec["dtype"]], rank,
            ctypes.c_void_p(base + spec["offset"]), (ctypes.c_uint64 * rank)(*spec["dims"]),
            (ctypes.c_uint64 * max(rank - 1, 1))(*(spec["strides"] or [0])), (ctypes.c_uint32 * rank)(*spec["box"]),
            (ctypes.c_uint32 * rank)(*spec["element_strides"]), 0, SWIZZLES[spec["swizzle"]], 0, int(spec.get("nan", False)),
        )
        return ctypes.string_at(address, 128)

    def run(self, text, threads, blocks, source, output_bytes, maps=()):
        """The output of kernel `k` with parameters in, out and tensor maps."""
        module, function = self.load(text)
        pointers = [self.memory(source), self.memory(b"\xcc" * output_bytes)]
        try:
            values = [ctypes.c_uint64(pointer) for pointer in pointers]
            for spec in maps:
                storage = (ctypes.c_uint8 * 192)()
                at = (ctypes.addressof(storage) + 63) // 64 * 64
                ctypes.memmove(at, self.tensor_map(spec, pointers[spec["buffer"] == "out"]), 128)
                value = (ctypes.c_uint8 * 128).from_address(at)
                value.keep = storage
                values.append(value)
            params = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
            self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, params, None)
            self.call("cuCtxSynchronize")
            return self.read(pointers[1], output_bytes)
        finally:
            for pointer in pointers:
                self.free(pointer)
            self.call("cuModuleUnload", module)


def write(path, value):
    with open(path + ".part", "w") as file:
        json.dump(value, file, indent=1)
    os.replace(path + ".part", path)


def compare(driver, folder, report, path):
    with open(os.path.join(folder, "programs.json")) as file:
        programs = json.load(file)
    for program in programs:
        def read(kind):
            with open(os.path.join(folder, program["name"] + kind), "rb") as file:
                return file.read()

        result = {"name": program["name"], "features": program["features"]}
        report["random"].append(result)
        try:
            got = driver.run(
                read(".ptx") + b"\0", program["threads"], program["blocks"], read(".in"), program["output_bytes"], program["maps"]
            )
        except Failed as error:
            result["error"] = str(error)
            write(path, report)
            if "ILLEGAL" in str(error).upper() or "(7" in str(error):
                return  # the context is lost
            continue
        want = read(".out")
        result["sha256"] = hashlib.sha256(got).hexdigest()
        differing = [at for at in range(0, len(want), 4) if got[at:at + 4] != want[at:at + 4]]
        if differing:
            at = differing[0]
            result["differs"] = {
                "words": len(differing), "first": at, "gpu": got[at:at + 4].hex(), "emulator": want[at:at + 4].hex(),
            }
        write(path, report)


def kernel(body, registers="", version="8.6", target="sm_90a", threads=128, extra=""):
    """Text of a kernel whose thread i works at %in + 16 i and %out + 16 i."""
    return f"""
.version {version}
.target {target}
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out{extra})
.reqntid {threads}, 1, 1
{{
    .reg .b32 %r<64>; .reg .b64 %rd<16>; .reg .b16 %h<8>; .reg .pred %p<4>; {registers}
    ld.param.u64 %rd1, [in]; ld.param.u64 %rd2, [out];
    cvta.to.global.u64 %rd1, %rd1; cvta.to.global.u64 %rd2, %rd2;
    mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mad.lo.u32 %r2, %r1, {threads}, %r0;
    mul.wide.u32 %rd3, %r2, 16; add.u64 %rd1, %rd1, %rd3; add.u64 %rd2, %rd2, %rd3;
    {body}
    ret;
}}
"""


def words(numbers):
    return struct.pack(f"<{len(numbers)}I", *[number & 0xFFFFFFFF for number in numbers])


def probes(full):
    """Name, text, threads, blocks, input, output bytes, tensor maps."""
    dice = random.Random(90)
    count = 1 << 21 if full else 1 << 14
    for name in ("ex2.approx.f32", "ex2.approx.ftz.f32", "lg2.approx.f32", "rcp.approx.f32", "rsqrt.approx.f32",
                 "sqrt.approx.f32", "sin.approx.f32", "cos.approx.f32", "tanh.approx.f32"):
        numbers = [dice.getrandbits(32) for _ in range(count // 2)]
        # And densely where kernels use them.
        numbers += [struct.unpack("<I", struct.pack("<f", -16 + 32 * i / (count // 2)))[0] for i in range(count // 2)]
        body = "ld.global.v4.b32 {%r4, %r5, %r6, %r7}, [%rd1];" + "".join(f" {name} %r{i}, %r{i};" for i in range(4, 8))
        body += " st.global.v4.b32 [%rd2], {%r4, %r5, %r6, %r7};"
        yield name, kernel(body), 128, count // 512, words(numbers), 4 * count, ()
    body = "elect.sync %r4|%p0, -1; selp.b32 %r5, 1, 0, %p0; st.global.v4.b32 [%rd2], {%r4, %r5, %r0, %r0};"
    yield "elect.sync", kernel(body, threads=32), 32, 1, words([0] * 128), 512, ()

    def spread(kind):
        """A number of a 16-bit type with an exponent from a wide range."""
        if kind == "bf16":
            return dice.getrandbits(1) << 15 | dice.randrange(100, 150) << 7 | dice.getrandbits(7)
        return dice.getrandbits(1) << 15 | dice.randrange(1, 30) << 10 | dice.getrandbits(10)

    for kind in ("bf16", "f16"):
        blocks = 64
        values = []
        for _ in range(blocks * 32):
            values += [spread(kind) | spread(kind) << 16 for _ in range(8)]
            values += [struct.unpack("<I", struct.pack("<f", dice.uniform(-1, 1) * 2.0 ** dice.randrange(-20, 20)))[0] for _ in range(4)]
        body = f"""
    mul.wide.u32 %rd4, %r2, 32; add.u64 %rd1, %rd1, %rd4;
    ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%rd1]; ld.global.v2.b32 {{%r8, %r9}}, [%rd1+16];
    ld.global.v4.b32 {{%r12, %r13, %r14, %r15}}, [%rd1+32];
    mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 {{%r16, %r17, %r18, %r19}}, {{%r4, %r5, %r6, %r7}}, {{%r8, %r9}}, {{%r12, %r13, %r14, %r15}};
    st.global.v4.b32 [%rd2], {{%r16, %r17, %r18, %r19}};"""
        yield f"mma {kind}", kernel(body, threads=32), 32, blocks, words(values), blocks * 512, ()
    for kind in ("e4m3", "e5m2"):
        # wgmma m64n8k32 with a in registers; b is 8 rows of 32 bytes, unswizzled, in shared memory.
        values = [dice.getrandbits(32) & 0x7E7E7E7E | (dice.getrandbits(32) & 0x80808080) for _ in range(128 * 8)]
        body = f"""
    .shared .align 1024 .b8 b[1024];
    ld.global.v4.b32 {{%r4, %r5, %r6, %r7}}, [%rd1]; ld.global.v4.b32 {{%r8, %r9, %r10, %r11}}, [%rd1+2048];
    setp.ge.u32 %p0, %r0, 16; mov.b32 %r20, b; shl.b32 %r21, %r0, 4; add.u32 %r21, %r21, %r20;
    @!%p0 st.shared.v4.b32 [%r21], {{%r8, %r9, %r10, %r11}};
    fence.proxy.async.shared::cta; bar.sync 0;
    and.b32 %r22, %r20, 0x3ffff; shr.u32 %r22, %r22, 4; cvt.u64.u32 %rd5, %r22; or.b64 %rd5, %rd5, {(128 >> 4) << 16 | (256 >> 4) << 32};
    mov.b32 %r12, 0; mov.b32 %r13, 0; mov.b32 %r14, 0; mov.b32 %r15, 0; setp.ne.b32 %p1, 0, 0;
    wgmma.fence.sync.aligned;
    wgmma.mma_async.sync.aligned.m64n8k32.f32.{kind}.{kind} {{%r12, %r13, %r14, %r15}}, {{%r4, %r5, %r6, %r7}}, %rd5, %p1, 1, 1;
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    st.global.v4.b32 [%rd2], {{%r12, %r13, %r14, %r15}};"""
        yield f"wgmma {kind}", kernel(body), 128, 1, words(values), 2048, ()

    def box(name, spec, coords, size):
        """Shared memory after a box was loaded into it; what the copy leaves is 0xEE."""
        rank = len(coords)
        moves = " ".join(f"mov.b32 %r{40 + i}, {c};" for i, c in enumerate(coords))
        where = ", ".join(f"%r{40 + i}" for i in range(rank))
        body = f"""
    .shared .align 1024 .b8 s[2048]; .shared .align 8 .b64 bar;
    mov.b32 %r20, s; shl.b32 %r21, %r0, 4; add.u32 %r21, %r21, %r20; mov.b32 %r22, 0xeeeeeeee;
    st.shared.v4.b32 [%r21], {{%r22, %r22, %r22, %r22}};
    setp.ne.u32 %p0, %r0, 0; mov.b32 %r23, bar;
    @!%p0 mbarrier.init.shared::cta.b64 [%r23], 1; fence.mbarrier_init.release.cluster; fence.proxy.async; bar.sync 0;
    {moves} mov.b64 %rd6, m; cvta.param.u64 %rd6, %rd6;
    @!%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r23], {size};
    @!%p0 cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r20], [%rd6, {{{where}}}], [%r23];
L: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r23], 0; @!%p1 bra L;
    ld.shared.v4.b32 {{%r4, %r5, %r6, %r7}}, [%r21]; st.global.v4.b32 [%rd2], {{%r4, %r5, %r6, %r7}};"""
        source = bytes(range(256)) * 32
        return name, kernel(body, extra=", .param .align 64 .b8 m[128]"), 128, 1, source, 2048, (spec,)

    for swizzle in (32, 64, 128):
        for width in (8, 16):
            if 2 * width < swizzle:
                spec = {"buffer": "in", "offset": 0, "dtype": "u16", "dims": [64, 16], "strides": [128], "box": [width, 8],
                        "element_strides": [1, 1], "swizzle": swizzle}
                yield box(f"box of {2 * width} bytes under a {swizzle}-byte swizzle", spec, [8, 1], 16 * width)
    for dtype, size in (("f16", 2), ("bf16", 2), ("f32", 4), ("f64", 8)):
        width = 64 // size
        spec = {"buffer": "in", "offset": 0, "dtype": dtype, "dims": [width, 8], "strides": [64], "box": [width, 8],
                "element_strides": [1, 1], "swizzle": 0, "nan": True}
        yield box(f"fill outside of {dtype}", spec, [-1, 3], 512)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", default=os.path.join(HERE, "random"), help="folder of the random programs")
    parser.add_argument("--out", default=os.environ.get("OUT", HERE), help="folder of the report")
    parser.add_argument("--device", type=int, default=0, help="CUDA device")
    parser.add_argument("--full-tables", action="store_true", help="approximate functions at 2 million places instead of 16 thousand")
    parser.add_argument("--only", choices=("random", "probes"), help="one part")
    parser.add_argument("--libcuda", default="libcuda.so.1", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only != "probes" and not os.path.isfile(os.path.join(args.random, "programs.json")):
        quit_with(f"no random programs in {args.random}: `cargo xtask gpu-pack` writes them")
    if not os.path.isdir(args.out):
        quit_with(f"--out {args.out} is not a folder")
    try:
        driver = Driver(args.libcuda, args.device)
    except Failed as error:
        quit_with(str(error))
    report = {"gpu": driver.name, "sm": driver.sm, "driver": driver.version, "random": [], "probes": []}
    path = os.path.join(args.out, REPORT)
    if args.only != "probes":
        compare(driver, args.random, report, path)
    vectors = []
    for name, text, threads, blocks, source, output_bytes, maps in probes(args.full_tables) if args.only != "random" else ():
        result = {"name": name}
        report["probes"].append(result)
        try:
            got = driver.run(text.encode() + b"\0", threads, blocks, source, output_bytes, maps)
            result["sha256"] = hashlib.sha256(got).hexdigest()
            vectors.append({
                "name": name, "gpu": driver.name, "ptx": text, "threads": threads, "blocks": blocks, "maps": list(maps),
                "in": source.hex(), "out": got.hex(),
            })
        except Failed as error:
            result["error"] = str(error)
        write(path, report)
    write(os.path.join(args.out, VECTORS), vectors)
    write(path, report)
    bad = [entry["name"] for entry in report["random"] + report["probes"] if "error" in entry or "differs" in entry]
    print(f"{len(report['random'])} programs, {len(report['probes'])} probes on {driver.name}: {len(bad)} differ or fail")
    for name in bad[:20]:
        print(f"  {name}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
