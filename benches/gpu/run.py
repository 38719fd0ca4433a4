#!/usr/bin/env python3
"""Checks and times a kernel pack on an NVIDIA GPU. Needs Python 3.10+, torch with CUDA, and nothing of Rust.

The folder this file lies in holds `libtilewright.so` and the pack (`kernels-generated/<target>/manifest.json`).
Phases, each in its own process, so that a crash or a hang costs one case and not the run:

  check    every plan on ragged and aligned shapes against a float64 reference: |out - ref| <= 2 |lowp - ref| + slack,
           where lowp is torch's own result in that precision; outputs poisoned with NaN, guard bytes around every tensor
  sweep    the plan that dispatch chooses against cuBLAS on square and LLM shapes: L2-cold rotating buffers, random
           U[-1,1] data, CUDA graphs below 50 us, both measured in turns, medians with p20 and p80
  attention-check, attention
           the same for attention: every plan checked, then prefill, decode, block-sparse and page selection against
           torch and against what memory and the dense kernel allow; attention.py has them
  mixed-check, mixed
           the same for GEMMs of packed weights, 8-bit operands and experts: every plan checked, then layers of language
           models against torch and, with --peers, what other libraries have; gemm_mixed.py has them
  sparse-check, sparse
           the same for sparse convolutions: every plan checked on pieces of scans, then layers and whole networks on scans
           against gather-GEMM-scatter with torch, spconv-triton and spconv; sparse.py has them
  tune     where the kit has a tuning pack (`tuning/`), its runner finds the best candidate of each problem; the log,
           trials.jsonl in --out, goes back to `gen tune --merge`. A run that time cuts short goes on from that log
  plans    every GEMM plan of the pack on 4096^3 and 8192^3, then on the LLM shapes, for tuning

The report (gpu-report.json in --out, else $OUT, else here) is rewritten by rename after every case. Exit status: 0 all
right, 1 a case failed, 2 wrong usage or something missing (one line says what).
"""

import argparse
import ctypes
import glob
import json
import math
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = "libtilewright.so"
REPORT = "gpu-report.json"
PHASES = ("check", "sweep", "mixed-check", "mixed", "attention-check", "attention", "sparse-check", "sparse", "tune", "plans")
# Share of the time left that a phase may use; the last takes what remains.
SHARE = {
    "check": 0.15, "sweep": 0.25, "mixed-check": 0.2, "mixed": 0.5, "attention-check": 0.25, "attention": 0.5,
    "sparse-check": 0.25, "sparse": 0.8, "tune": 0.7, "plans": 1.0,
}

OK, UNFIT = 0, 4
FASTEST = 0
CONTEXT_LOST = 3  # exit status of a worker whose last case is recorded, but which cannot go on
GUARD = 4096  # bytes on either side of every tensor in a check; keeps the alignment of the tensor
NAN_BYTE = 0xFF  # all ones are a NaN in every float type here
GRAPH_BELOW_US = 50.0

SQUARES = [(4096, 4096, 4096), (8192, 8192, 8192)]
LLAMA_8B = [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096)]  # (k, n)
LLAMA_70B = [(8192, 10240), (8192, 8192), (8192, 57344), (28672, 8192)]
LLM_M = [4096, 16, 1, 64, 256, 1024]  # most telling first
SPARSE_OPS = ("sparse_conv", "kernel_map", "sparse_network")
ATTENTION_OPS = ("attention", "attention_decode", "attention_merge", "page_stats", "page_select")
MAIN_CLASS = {"a": "bf16", "b": "nk", "out": "bf16", "act": "none", "bias": "0", "residual": "0"}

# (m, n, k, batch), most telling first. Plans whose conditions refuse a shape are counted, not run.
CHECK_SHAPES = [
    (777, 1000, 520, 1), (1, 8, 8, 1), (128, 256, 64, 1), (1, 4096, 4096, 1), (333, 77, 129, 1), (129, 264, 72, 1),
    (300, 520, 1032, 1), (1, 1, 1, 1), (3, 5, 7, 1), (64, 128, 8, 1), (127, 264, 4104, 1), (2048, 2048, 2048, 1),
    (257, 136, 192, 3), (16, 6144, 4096, 1), (8, 40, 12288, 1), (65, 33, 31, 2), (1, 28672, 4096, 1), (4096, 8, 16, 1),
    (511, 513, 515, 1), (4096, 4096, 4096, 1), (8191, 4104, 136, 1), (192, 192, 64, 1), (1000, 999, 1001, 1),
]


class Gemm(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("m", "n", "k", "batch", "split_k")] + [("alpha", ctypes.c_float)]


class Size(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_int64)]


class Number(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("value", ctypes.c_float)]


class Problem(ctypes.Structure):
    """A problem of any op: sizes and numbers by name."""

    _fields_ = [
        ("sizes", ctypes.POINTER(Size)), ("numbers", ctypes.POINTER(Number)), ("n_sizes", ctypes.c_uint32),
        ("n_numbers", ctypes.c_uint32),
    ]

    def __init__(self, sizes, numbers=None):
        numbers = numbers or {}
        # The structure holds pointers only; Python must keep what they point to.
        self.kept = (
            (Size * len(sizes))(*[Size(name.encode(), value) for name, value in sizes.items()]),
            (Number * len(numbers))(*[Number(name.encode(), value) for name, value in numbers.items()]),
        )
        super().__init__(self.kept[0], self.kept[1], len(sizes), len(numbers))


class TensorInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("role", ctypes.c_int32), ("rank", ctypes.c_uint32),
        ("shape", ctypes.c_uint64 * 8), ("bytes", ctypes.c_uint64), ("alignment", ctypes.c_uint64),
    ]


class Failed(Exception):
    """A call of the runtime, or a case, that did not work."""


def quit_with(why):
    print(f"run.py: {why}", file=sys.stderr)
    sys.exit(2)


class Runtime:
    """The C ABI of the runtime; `tilewright.h` documents it."""

    def __init__(self, path):
        try:
            self.lib = lib = ctypes.CDLL(path)
        except OSError as error:
            quit_with(f"cannot load {path}: {error}")
        text, pointer, out = ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        gemm, i32, u32, problem = ctypes.POINTER(Gemm), ctypes.c_int32, ctypes.c_uint32, ctypes.POINTER(Problem)
        for name, result, arguments in [
            ("tw_version", text, []),
            ("tw_last_error", text, []),
            ("tw_open", i32, [text, u32, out]),
            ("tw_verify", i32, [pointer]),
            ("tw_manifest_hash", text, [pointer]),
            ("tw_close", None, [pointer]),
            ("tw_select_gemm", i32, [pointer, text, i32, gemm, ctypes.POINTER(text)]),
            ("tw_check_gemm", i32, [pointer, text, gemm]),
            ("tw_prepare_plan", i32, [pointer, text, gemm, out]),
            ("tw_select", i32, [pointer, text, text, i32, problem, ctypes.POINTER(text)]),
            ("tw_check", i32, [pointer, text, problem]),
            ("tw_prepare", i32, [pointer, text, problem, out]),
            ("tw_op_tensor_count", u32, [pointer]),
            ("tw_op_tensor", i32, [pointer, u32, ctypes.POINTER(TensorInfo)]),
            ("tw_op_workspace_bytes", ctypes.c_uint64, [pointer]),
            ("tw_run", i32, [pointer, ctypes.POINTER(ctypes.c_uint64), u32, pointer]),
            ("tw_op_close", None, [pointer]),
        ]:
            try:
                function = getattr(lib, name)
            except AttributeError:
                quit_with(f"{path} lacks {name}: run.py and the library are from different versions")
            function.restype, function.argtypes = result, arguments
        self.pack = None

    def open(self, folder, ordinal):
        pack = ctypes.c_void_p()
        self.require(self.lib.tw_open(folder.encode(), ordinal, ctypes.byref(pack)))
        self.pack = pack

    def require(self, status):
        if status != OK:
            raise Failed(self.lib.tw_last_error().decode())

    def select(self, op_class, problem):
        plan = ctypes.c_char_p()
        self.require(self.lib.tw_select_gemm(self.pack, op_class.encode(), FASTEST, ctypes.byref(problem), ctypes.byref(plan)))
        return plan.value.decode()

    def select_of(self, op, op_class, problem):
        plan = ctypes.c_char_p()
        self.require(
            self.lib.tw_select(self.pack, op.encode(), op_class.encode(), FASTEST, ctypes.byref(problem), ctypes.byref(plan))
        )
        return plan.value.decode()

    def admits(self, plan, problem):
        """None when the plan is correct for the problem, else the condition that does not hold."""
        check = self.lib.tw_check_gemm if isinstance(problem, Gemm) else self.lib.tw_check
        status = check(self.pack, plan.encode(), ctypes.byref(problem))
        if status not in (OK, UNFIT):
            raise Failed(self.lib.tw_last_error().decode())
        return None if status == OK else self.lib.tw_last_error().decode()


class Op:
    """A prepared plan; closes itself."""

    def __init__(self, runtime, plan, problem):
        self.lib, self.require = runtime.lib, runtime.require
        self.handle = ctypes.c_void_p()
        prepare = self.lib.tw_prepare_plan if isinstance(problem, Gemm) else self.lib.tw_prepare
        self.require(prepare(runtime.pack, plan.encode(), ctypes.byref(problem), ctypes.byref(self.handle)))
        self.tensors = []
        for index in range(self.lib.tw_op_tensor_count(self.handle)):
            info = TensorInfo()
            self.require(self.lib.tw_op_tensor(self.handle, index, ctypes.byref(info)))
            shape = [int(extent) for extent in info.shape[: info.rank]]
            self.tensors.append((info.name.decode(), info.dtype.decode(), info.role == 1, shape, int(info.bytes)))

    def addresses(self, tensors):
        pointers = [tensors[name].data_ptr() for name, *_ in self.tensors]
        return (ctypes.c_uint64 * len(pointers))(*pointers)

    def run(self, addresses, stream):
        self.require(self.lib.tw_run(self.handle, addresses, len(addresses), stream))

    def close(self):
        self.lib.tw_op_close(self.handle)
        self.handle = ctypes.c_void_p()


class Part:
    """A phase's results on disk: cases done, and the one under way, which a crash leaves behind."""

    def __init__(self, path):
        self.path = path
        self.data = {"cases": {}, "current": None, "skipped": [], "notes": {}}
        if os.path.exists(path):
            with open(path) as file:
                self.data = json.load(file)

    def save(self):
        write_json(self.path, self.data)

    def start(self, key):
        self.data["current"] = key
        self.save()

    def finish(self, key, result):
        self.data["cases"][key] = result
        self.data["current"] = None
        self.save()


def write_json(path, data):
    with open(path + ".tmp", "w") as file:
        json.dump(data, file, indent=1, sort_keys=True)
        file.write("\n")
    os.replace(path + ".tmp", path)


def run_cases(part, cases, deadline):
    """Runs (key, function) pairs until the deadline; an exception is a result, a lost context ends the process."""
    import torch

    for at, (key, case) in enumerate(cases):
        if key in part.data["cases"]:
            continue
        if time.time() > deadline:
            part.data["skipped"] = [key for key, _ in cases[at:] if key not in part.data["cases"]]
            part.save()
            print(f"  time is up: {len(part.data['skipped'])} of {len(cases)} cases skipped", flush=True)
            return
        part.start(key)
        try:
            result = case()
        except Failed as error:
            result = {"status": "failed", "why": str(error)}
        except torch.cuda.OutOfMemoryError as error:
            result = {"status": "not run", "why": f"out of memory: {first_line(error)}"}
        except RuntimeError as error:
            result = {"status": "failed", "why": f"torch: {first_line(error)}"}
        lost = context_lost()
        if lost and result["status"] == "ok":
            result = {"status": "crashed", "why": lost}
        part.finish(key, result)
        print(f"  [{at + 1}/{len(cases)}] {key}: {describe(result)}", flush=True)
        if lost:
            sys.exit(CONTEXT_LOST)


def context_lost():
    """Why the GPU takes no more work from this process (an illegal access, say), or None."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return first_line(error)
    return None


def first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def describe(result):
    if "us" not in result:
        return " ".join([result["status"]] + [str(result[name]) for name in ("why",) if name in result])
    if "says" in result:
        return result["says"]
    line = f"{result['us']:.1f} us, {result['tflops']:.0f} TFLOP/s"
    if "of_cublas" in result:
        line += f", {result['of_cublas']:.3f} x cuBLAS ({result['cublas_us']:.1f} us)"
    return line + ("" if result["status"] == "ok" else f", {result['status']}: {result.get('why', '')}")


# ---------------------------------------------------------------------------------------------------------- check


def parse_class(text):
    return dict(entry.split("=", 1) for entry in text.split(",") if "=" in entry)


def unsupported(fields):
    """What of a class this script has no reference for, or None."""
    known = {
        "batch": {"0", "1"}, "a": {"bf16", "f16", "e4m3", "e5m2"}, "b": {"nk", "kn"}, "out": {"bf16", "f16", "f32", "e4m3", "e5m2"},
        "act": {"none", "relu", "gelu", "silu", "swiglu"}, "bias": {"0", "1"}, "residual": {"0", "1"},
    }
    for key, value in fields.items():
        if value not in known.get(key, {"0", "none"}):
            return f"no reference for {key}={value}"
    return None


def is_mixed(op, fields):
    """Whether phase mixed-check has the plans of a class."""
    return op in ("gemm_grouped", "gemm_pack", "quantize") or op == "gemm" and (
        fields.get("weight", "same") != "same" or fields.get("groups", "batch") != "batch" or fields.get("a") in ("e4m3", "e5m2", "i8")
    )


def torch_dtype(name):
    import torch

    return {
        "bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32, "e4m3": torch.float8_e4m3fn,
        "e5m2": torch.float8_e5m2, "i8": torch.int8, "u8": torch.uint8, "i32": torch.int32,
    }[name]


def guarded(shape, dtype, size):
    """A NaN-filled tensor with NaN bytes around it, and the buffer that holds both."""
    import torch

    buffer = torch.full((size + 2 * GUARD,), NAN_BYTE, dtype=torch.uint8, device="cuda")
    return buffer, buffer[GUARD : GUARD + size].view(torch_dtype(dtype)).view(shape)


def guards_intact(buffer):
    return bool((buffer[:GUARD] == NAN_BYTE).all()) and bool((buffer[-GUARD:] == NAN_BYTE).all())


def guarded_runs(op, given):
    """Outputs of three runs on equal inputs; raises Failed where a run touches what is not its own."""
    import torch

    # Two sets at different addresses: the second run also proves that a launch follows the caller's pointers.
    sets = []
    for _ in range(2):
        sets.append({name: guarded(shape, dtype, size) for name, dtype, _, shape, size in op.tensors})
        for name, data in given.items():
            sets[-1][name][1].copy_(data)
    stream, outputs = torch.cuda.current_stream().cuda_stream, []
    for tensors in sets + sets[:1]:
        written = {name: tensors[name] for name in tensors if name not in given}
        for buffer, _ in written.values():
            buffer.fill_(NAN_BYTE)
        op.run(op.addresses({name: view for name, (_, view) in tensors.items()}), stream)
        torch.cuda.synchronize()
        outputs.append({name: view.clone() for name, (_, view) in written.items()})
    for tensors in sets:
        for name, (buffer, view) in tensors.items():
            if not guards_intact(buffer):
                raise Failed(f"bytes outside `{name}` were written")
            if name in given and not torch.equal(view.view(torch.uint8), given[name].contiguous().view(torch.uint8)):
                raise Failed(f"input `{name}` was changed")
    return outputs


def activation(x, name, gelu):
    import torch.nn.functional as F

    if name == "gelu":
        return F.gelu(x, approximate="tanh" if gelu == "tanh" else "none")
    if name == "swiglu":
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up
    return {"none": lambda x: x, "relu": F.relu, "silu": F.silu}[name](x)


def reference(given, fields, alpha, gelu, dtype):
    """act(alpha * a @ b + bias) + residual, every step in `dtype`."""
    a, b = given["a"].to(dtype), given["b"].to(dtype)
    out = a @ (b.transpose(-1, -2) if fields["b"] == "nk" else b)
    out = out if alpha == 1.0 else out * alpha
    out = out + given["bias"].to(dtype) if "bias" in given else out
    out = activation(out, fields["act"], gelu)
    return out + given["residual"].to(dtype) if "residual" in given else out


def lowp_reference(given, fields, alpha, gelu):
    """torch's own result: in the input's precision where torch multiplies in it, else in f32; then in the output's."""
    import torch

    a, out = given["a"].dtype, torch_dtype(fields["out"])
    compute = a if a in (torch.bfloat16, torch.float16) and out == a else torch.float32
    return reference(given, fields, alpha, gelu, compute).to(out)


def check_case(runtime, plan, fields, gelu, problem):
    op = Op(runtime, plan, problem)
    try:
        return check_op(op, fields, gelu, problem)
    finally:
        op.close()


def check_op(op, fields, gelu, problem):
    import torch

    generator = torch.Generator(device="cuda").manual_seed(problem.m * 7919 + problem.n * 104729 + problem.k)
    given = {}
    for name, dtype, is_output, shape, _ in op.tensors:
        if is_output:
            continue
        given[name] = (torch.rand(shape, generator=generator, device="cuda") * 2 - 1).to(torch_dtype(dtype))
    sizes = {name: math.prod(shape) for name, _, _, shape, _ in op.tensors}
    unknown = set(given) - {"a", "b", "bias", "residual"}
    if unknown or "d" not in sizes:
        return {"status": "not run", "why": f"tensors {sorted(unknown)} have no meaning here, or there is no d"}
    if sizes["d"] != problem.batch * problem.m * problem.n:
        raise Failed(f"d has {sizes['d']} elements: the plan admits a batch of {problem.batch} and ignores it")
    outputs = [found["d"] for found in guarded_runs(op, given)]

    alpha = float(problem.alpha)
    exact = reference(given, fields, alpha, gelu, torch.float64)
    lowp = (lowp_reference(given, fields, alpha, gelu).double() - exact).abs().max().item()
    # Tensor cores add in f32 and truncate: two units in the last place of the sum of magnitudes.
    magnitude = reference({"a": given["a"].double().abs(), "b": given["b"].double().abs()}, {**fields, "act": "none"}, abs(alpha), None, torch.float64)
    slack = magnitude.max().item() * 2.0**-22
    out = outputs[0].double().view(exact.shape)
    error = (out - exact).abs().max().item()  # NaN where an element was never written
    result = {"status": "ok", "error": error, "lowp_error": lowp, "slack": slack, "alpha": alpha}
    if not error <= 2 * lowp + slack:
        wrong = ~((out - exact).abs() <= 2 * lowp + slack)
        first = [int(index) for index in wrong.nonzero()[0]]
        unwritten = int(out.isnan().sum())
        why = f"error {error:.3g} above 2 * {lowp:.3g} + {slack:.3g}: {int(wrong.sum())} of {out.numel()} elements, first {first}, {unwritten} NaN"
        result.update(status="failed", why=why)
    elif any(not torch.equal(other.view(torch.uint8), outputs[0].view(torch.uint8)) for other in outputs[1:]):
        result.update(status="failed", why="runs on equal data differ in bits")
    return json_safe(result)


def json_safe(result):
    """JSON has no NaN or infinity."""
    return {key: str(v) if isinstance(v, float) and not math.isfinite(v) else v for key, v in result.items()}


def phase_check(runtime, manifest, part, deadline):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    kernels = {kernel["id"]: kernel for kernel in manifest["kernels"]}
    cases, refused, unchecked = [], {}, {}
    for shape in CHECK_SHAPES:
        for plan in manifest["plans"]:
            fields, used = parse_class(plan["class"]), [kernels[launch["kernel"]] for launch in plan["launches"]]
            if plan["op"] in ATTENTION_OPS + SPARSE_OPS or is_mixed(plan["op"], fields):
                continue  # phases attention-check, sparse-check and mixed-check have them
            why = f"op {plan['op']}" if plan["op"] != "gemm" else unsupported(fields)
            if why:
                unchecked[plan["id"]] = why
                continue
            scalars = {p["kind"]["f32"]["scalar"] for kernel in used for p in kernel["params"] if "f32" in p["kind"]}
            alpha = 0.75 if "alpha" in scalars and len(cases) % 2 else 1.0
            problem = Gemm(*shape[:3], shape[3], 0, alpha)
            condition = runtime.admits(plan["id"], problem)
            if condition:
                refused[f"{plan['id']} {name_of(shape)}"] = condition
                continue
            gelu = next((kernel["numerics"].get("gelu") for kernel in used if kernel["numerics"].get("gelu")), None)
            arguments = (runtime, plan["id"], fields, gelu, problem)
            cases.append((f"{plan['id']} {name_of(shape)}", lambda arguments=arguments: check_case(*arguments)))
    part.data["notes"] = {"refused_by_requires": refused, "plans_without_reference": unchecked}
    run_cases(part, cases, deadline)


def name_of(shape):
    m, n, k, *batch = shape
    return f"{m}x{n}x{k}" + (f"b{batch[0]}" if batch and batch[0] != 1 else "")


# ---------------------------------------------------------------------------------------------------------- timing


def l2_bytes(properties):
    return getattr(properties, "L2_cache_size", 0) or 60 << 20


def buffer_sets(m, n, k):
    """Enough sets of (a, b, d) that none is in L2 when its turn comes: twice L2 in all, at least 2 sets."""
    import torch

    free = torch.cuda.mem_get_info()[0]
    size = 2 * (m * k + n * k + m * n)
    # What a set is read and written again after: all the others, so one more than twice L2.
    count = max(2, min(2 * l2_bytes(torch.cuda.get_device_properties(0)) // size + 1, 256, free // 2 // size))
    sets = []
    for seed in range(count):
        generator = torch.Generator(device="cuda").manual_seed(seed)
        make = lambda *shape: torch.empty(shape, dtype=torch.bfloat16, device="cuda").uniform_(-1, 1, generator=generator)
        sets.append({"a": make(m, k), "b": make(n, k), "d": torch.empty(m, n, dtype=torch.bfloat16, device="cuda")})
    return sets


class Timed:
    """One side of a comparison: `launch(set index)` queues one run on the current stream."""

    def __init__(self, name, launch, n_sets):
        import torch

        self.name, self.launch, self.n_sets, self.at, self.graph, self.samples = name, launch, n_sets, 0, None, []
        for index in range(n_sets):
            launch(index)
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for index in range(n_sets):
            launch(index)
        end.record()
        torch.cuda.synchronize()
        self.rough_us = begin.elapsed_time(end) * 1e3 / n_sets

    def capture(self):
        """Puts at least 20 launches, and a whole number of turns through the sets, into a graph."""
        import torch

        turns = -(-20 // self.n_sets)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for index in range(turns * self.n_sets):
                self.launch(index % self.n_sets)
        self.per_replay = turns * self.n_sets

    def sample(self):
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        if self.graph:
            self.graph.replay()
        else:
            self.launch(self.at % self.n_sets)
            self.at += 1
        end.record()
        self.samples.append((begin, end))

    def microseconds(self):
        per = self.per_replay if self.graph else 1
        return sorted(begin.elapsed_time(end) * 1e3 / per for begin, end in self.samples)


def measure(sides, seconds):
    """Samples the sides in turns for about `seconds`; gives (median, p20, p80, samples) by name."""
    import torch

    if min(side.rough_us for side in sides) < GRAPH_BELOW_US:
        for side in sides:
            if side.graph is None:
                side.capture()
    once = sum(side.rough_us * (side.per_replay if side.graph else 1) for side in sides) * 1e-6
    rounds = max(10, min(200, int(seconds / once)))
    for _ in range(max(2, rounds // 5)):  # warms clocks and caches; not counted
        for side in sides:
            side.sample()
    torch.cuda.synchronize()
    for side in sides:
        side.samples.clear()
    for _ in range(rounds):
        for side in sides:
            side.sample()
    torch.cuda.synchronize()
    result = {}
    for side in sides:
        us = side.microseconds()
        result[side.name] = (us[len(us) // 2], us[len(us) // 5], us[len(us) * 4 // 5], len(us))
    return result


def time_plans(runtime, plan_ids, shape, with_cublas, seconds):
    """Times plans, with cuBLAS beside them, on one shape; gives a row for each plan."""
    import torch
    import torch.nn.functional as F

    m, n, k = shape
    problem = Gemm(m, n, k, 1, 0, 1.0)
    sets = buffer_sets(m, n, k)
    sides, ops, different = [], {}, {}
    try:
        exact = torch.matmul(sets[0]["a"], sets[0]["b"].t()).float()
        for plan in plan_ids:
            op = ops[plan] = Op(runtime, plan, problem)
            addresses = [op.addresses(tensors) for tensors in sets]

            def launch(index, op=op, addresses=addresses):
                op.run(addresses[index], torch.cuda.current_stream().cuda_stream)

            sets[0]["d"].fill_(float("nan"))
            sides.append(Timed(plan, launch, len(sets)))
            # Two correct bf16 results differ by roundings; a wrong one by far more than a hundredth of the largest.
            gap = (sets[0]["d"].float() - exact).abs().max().item() / exact.abs().max().item()
            if not gap < 0.01:
                different[plan] = f"differs from cuBLAS by {gap:.3g} of the largest element"
        del exact
        if with_cublas:
            transposed = [tensors["b"].t() for tensors in sets]

            def matmul(index):
                torch.matmul(sets[index]["a"], transposed[index], out=sets[index]["d"])

            def linear(index):
                F.linear(sets[index]["a"], sets[index]["b"])

            sides += [Timed("torch.matmul", matmul, len(sets)), Timed("F.linear", linear, len(sets))]
        times = measure(sides, seconds)
    finally:
        for side in sides:
            side.graph = None
        torch.cuda.synchronize()
        for op in ops.values():
            op.close()
    rows = {}
    for plan in plan_ids:
        median, p20, p80, samples = times[plan]
        row = {
            "status": "failed" if plan in different else "ok", "plan": plan, "m": m, "n": n, "k": k, "us": median, "p20_us": p20,
            "p80_us": p80, "samples": samples, "tflops": 2 * m * n * k / median * 1e-6, "buffer_sets": len(sets),
            "graph": sides[0].per_replay if hasattr(sides[0], "per_replay") else 0,
        }
        if plan in different:
            row["why"] = different[plan]
        if with_cublas:
            peers = {name: times[name] for name in ("torch.matmul", "F.linear")}
            best = min(peers, key=lambda name: peers[name][0])
            row.update(cublas_us=peers[best][0], cublas_p20_us=peers[best][1], cublas_p80_us=peers[best][2], peer=best)
            row.update(matmul_us=peers["torch.matmul"][0], linear_us=peers["F.linear"][0], of_cublas=peers[best][0] / median)
            row["cublas_tflops"] = 2 * m * n * k / peers[best][0] * 1e-6
        rows[plan] = row
    return rows


def llm_shapes():
    """(group, shape), one m at a time so that a short run has seen every layer."""
    for m in LLM_M:
        for group, layers in (("llama-3-8b", LLAMA_8B), ("llama-3-70b", LLAMA_70B)):
            for k, n in layers:
                yield group, (m, n, k)


def main_class(manifest):
    """The spelling in the pack of the class that the sweep measures."""
    for table in manifest["dispatch"]:
        fields = parse_class(table["class"])
        rest = {key: value for key, value in fields.items() if key not in MAIN_CLASS}
        if table["op"] == "gemm" and MAIN_CLASS.items() <= fields.items() and all(v in ("0", "none") for v in rest.values()):
            return table["class"]
    return None


def phase_sweep(runtime, manifest, part, deadline):
    op_class = main_class(manifest)
    if op_class is None:
        part.data["notes"] = {"sweep": "the pack has no dispatch table for bf16 gemm with b as [n, k] and no epilogue"}
        part.save()
        return

    def case(group, shape):
        plan = runtime.select(op_class, Gemm(*shape, 1, 0, 1.0))
        row = time_plans(runtime, [plan], shape, True, 0.8)[plan]
        row.update(group=group, gpu=gpu_state())
        return row

    shapes = [("square", shape) for shape in SQUARES] + list(llm_shapes())
    cases = [(name_of(shape), lambda group=group, shape=shape: case(group, shape)) for group, shape in unique(shapes)]
    run_cases(part, cases, deadline)


def unique(shapes):
    """Layers shared by two models are measured once, under the first."""
    seen = {}
    for group, shape in shapes:
        seen.setdefault(shape, group)
    return [(group, shape) for shape, group in seen.items()]


def phase_plans(runtime, manifest, part, deadline):
    op_class = main_class(manifest)
    plans = [plan["id"] for plan in manifest["plans"] if plan["op"] == "gemm" and plan["class"] == op_class]
    cases = []
    for _, shape in unique([("square", shape) for shape in SQUARES] + list(llm_shapes())):
        for plan in plans:
            if runtime.admits(plan, Gemm(*shape, 1, 0, 1.0)) is None:
                case = lambda plan=plan, shape=shape: time_plans(runtime, [plan], shape, True, 0.3)[plan]
                cases.append((f"{plan} {name_of(shape)}", case))
    run_cases(part, cases, deadline)


# ---------------------------------------------------------------------------------------------------------- machine


def gpu_state():
    """Clocks, power and temperature now, by nvidia-smi's names; {} without nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return {}
    import torch

    uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
    which = ["-i", uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"] if uuid else []
    fields = ["clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "power.limit", "driver_version"]
    # The name of the reasons for low clocks changed with driver 535; an unknown name fails the whole query.
    for names in (fields + ["clocks_event_reasons.active"], fields):
        command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits", *which]
        try:
            output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            continue
        return dict(zip(names, (value.strip() for value in output.splitlines()[0].split(","))))
    return {}


def probe():
    """Prints what this machine is, as JSON; run in a process of its own, so that the parent never holds the GPU."""
    import torch

    if torch.version.cuda is None:
        quit_with(f"torch {torch.__version__} is built without CUDA: install a CUDA build")
    if not torch.cuda.is_available():
        quit_with("torch finds no CUDA device: run this on a machine with an NVIDIA GPU and driver")
    properties = torch.cuda.get_device_properties(0)
    print(json.dumps({
        "name": properties.name, "capability": f"{properties.major}.{properties.minor}",
        "sms": properties.multi_processor_count, "memory_bytes": properties.total_memory, "l2_bytes": l2_bytes(properties),
        "torch": torch.__version__, "cuda": torch.version.cuda, "python": sys.version.split()[0], "state": gpu_state(),
    }))


def find_pack(given, capability):
    if given:
        folders = [given]
    else:
        patterns = ("kernels-generated/*/manifest.json", "manifest.json")
        folders = [os.path.dirname(path) for pattern in patterns for path in sorted(glob.glob(os.path.join(HERE, pattern)))]
    manifests = []
    for folder in folders:
        path = os.path.join(folder, "manifest.json")
        try:
            with open(path) as file:
                manifests.append((folder, json.load(file)))
        except (OSError, json.JSONDecodeError) as error:
            quit_with(f"{path}: {error}")
    if not manifests:
        quit_with(f"no pack: expected kernels-generated/<target>/manifest.json beside {__file__}, or --pack FOLDER")
    fitting = [(f, m) for f, m in manifests if capability and str(m.get("arch", "")).startswith("sm_" + capability.replace(".", ""))]
    return (fitting or manifests)[0]


def worker(arguments):
    """Runs one phase; started by the parent."""
    runtime = Runtime(arguments.lib)
    with open(os.path.join(arguments.pack, "manifest.json")) as file:
        manifest = json.load(file)
    try:
        import torch

        torch.cuda.init()
        torch.zeros(1, device="cuda")  # makes the primary context, which the runtime shares
        runtime.open(arguments.pack, 0)
        if arguments.worker == "check":
            runtime.require(runtime.lib.tw_verify(runtime.pack))
    except Failed as error:
        quit_with(str(error))
    part = Part(arguments.part)
    part.data["manifest_hash"] = runtime.lib.tw_manifest_hash(runtime.pack).decode()
    part.data["runtime"] = runtime.lib.tw_version().decode()
    import attention
    import gemm_mixed
    import sparse

    options = {"full": arguments.full, "only": arguments.mixed, "peers_folder": arguments.peers}
    {
        "check": phase_check, "sweep": phase_sweep, "plans": phase_plans, "attention-check": attention.phase_check,
        "attention": attention.phase_sweep, "mixed-check": gemm_mixed.phase_check,
        "mixed": lambda *given: gemm_mixed.phase_sweep(*given, **options),
        "sparse-check": sparse.phase_check, "sparse": lambda *given: sparse.phase_sweep(*given, arguments.peers),
    }[arguments.worker](runtime, manifest, part, arguments.deadline)
    part.save()


def run_phase(phase, arguments, part_path, deadline, merge):
    """Starts workers until the phase is through: each one that dies or stalls costs the case it was at."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", phase, "--lib", arguments.lib, "--pack", arguments.pack]
    command += ["--part", part_path, "--deadline", str(deadline)]
    given = vars(arguments)
    command += [word for name in ("mixed", "peers") if given.get(name) for word in (f"--{name}", given[name])]
    command += ["--full"] if given.get("full") else []
    while True:
        child = subprocess.Popen(command)
        stalled, changed, stamp = False, time.time(), None
        while child.poll() is None:
            time.sleep(0.5)
            now = os.stat(part_path).st_mtime_ns if os.path.exists(part_path) else None
            if now != stamp:
                stamp, changed = now, time.time()
                merge()
            if time.time() - changed > arguments.stall_s:
                stalled = True
                child.kill()
                child.wait()
        merge()
        if child.returncode == 0:
            return None
        if child.returncode == 2:
            return "the worker could not start; its line is above"
        part = Part(part_path)
        if part.data["current"] is not None:
            why = f"no progress for {arguments.stall_s} s" if stalled else f"the process ended with status {child.returncode}"
            print(f"  {part.data['current']}: {why}", flush=True)
            part.finish(part.data["current"], {"status": "hung" if stalled else "crashed", "why": why})
        elif child.returncode != CONTEXT_LOST:
            return f"the worker ended with status {child.returncode} between cases"
        merge()


def run_tune(out, deadline):
    """Runs the tuning pack's runner until it is through or time is up; what it found by then is in its log."""
    pack = os.path.join(HERE, "tuning")
    if not os.path.isdir(pack):
        print("  no tuning pack in this kit: cargo xtask gpu-pack --tune WORKLOAD adds one", flush=True)
        return None
    runner, log = os.path.join(pack, "tilewright-runner"), os.path.join(out, "trials.jsonl")
    # The environment shows one device only.
    child = subprocess.Popen([runner, "tune", "--pack", pack, "--device", "cuda:0", "--log", log])
    try:
        status = child.wait(timeout=max(1, deadline - time.time()))
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        print(f"  time is up; {log} holds what was measured", flush=True)
        return None
    return None if status == 0 else f"the runner ended with status {status}"


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def summarise(report):
    import attention
    import gemm_mixed
    import sparse

    cases = [case for phase in ("check", "attention-check", "mixed-check", "sparse-check") for case in report.get(phase, {}).get("cases", {}).values()]
    rows = [row for row in report.get("sweep", {}).get("cases", {}).values() if row.get("status") == "ok"]
    groups = {"all": rows}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
        groups.setdefault(f"m={row['m']}", []).append(row)
    best = {}
    for row in report.get("plans", {}).get("cases", {}).values():
        key = name_of((row["m"], row["n"], row["k"])) if row.get("status") == "ok" else None
        if key and ("us" in row) and row["us"] < best.get(key, {"us": math.inf})["us"]:
            best[key] = {"plan": row["plan"], "us": row["us"], "of_cublas": row["of_cublas"]}
    every = [case for phase in PHASES for case in report.get(phase, {}).get("cases", {}).values()]
    return {
        "checked": len(cases), "right": sum(case["status"] == "ok" for case in cases),
        "failures": sum(case["status"] in ("failed", "crashed", "hung") for case in every),
        "geomean_of_cublas": {name: geomean([row["of_cublas"] for row in group]) for name, group in groups.items()},
        "best_plan": best, "attention": attention.headline(report.get("attention", {}).get("cases", {})),
        "mixed": gemm_mixed.headline(report.get("mixed", {}).get("cases", {})),
        "sparse": sparse.headline(report.get("sparse", {}).get("cases", {})),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", help="the pack's folder (default: beside this file, the one for this GPU)")
    parser.add_argument("--lib", default=os.path.join(HERE, LIBRARY), help=f"the runtime (default: {LIBRARY} beside this file)")
    parser.add_argument("--out", help="folder for the report (default: $OUT, else the current folder)")
    parser.add_argument("--budget-s", type=float, default=480, help="seconds for everything (default: 480)")
    parser.add_argument("--stall-s", type=float, default=60, help="seconds without a result after which a case is killed")
    parser.add_argument("--phases", default=",".join(PHASES), help="which to run, comma-separated (default: all)")
    parser.add_argument("--device", type=int, default=0, help="CUDA device (default: 0)")
    parser.add_argument("--full", action="store_true", help="every case of the mixed sweep (default: a short list)")
    parser.add_argument("--quick", dest="full", action="store_false", help="the short list of the mixed sweep (the default)")
    parser.add_argument("--mixed", metavar="GLOB", help="of the mixed sweep only cases whose name matches")
    parser.add_argument("--peers", metavar="DIR", help="folder of peers of the mixed and sparse sweeps; gemm_mixed_peers.py and sparse_peers.py say what it holds")
    for hidden in ("--worker", "--part"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        return probe()
    if arguments.worker:
        return worker(arguments)

    begin = time.time()
    phases = [phase for phase in arguments.phases.split(",") if phase]
    wrong = [phase for phase in phases if phase not in PHASES]
    if wrong:
        quit_with(f"no phase {wrong[0]}: there are {', '.join(PHASES)}")
    if not os.path.isfile(arguments.lib):
        quit_with(f"{arguments.lib} is missing: build it with `cargo build --release -p tilewright-c`, or give --lib")
    from importlib.util import find_spec

    if find_spec("torch") is None:
        quit_with(f"torch is not installed for {sys.executable}: pip install torch")
    # One visible device, so that ordinal 0 is the same GPU for torch, the runtime and nvidia-smi.
    visible = [entry for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
    if visible and arguments.device >= len(visible):
        quit_with(f"no CUDA device {arguments.device}: CUDA_VISIBLE_DEVICES shows {len(visible)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[arguments.device] if visible else str(arguments.device)
    probed = subprocess.run([sys.executable, os.path.abspath(__file__), "--probe"], stdout=subprocess.PIPE, text=True)
    if probed.returncode != 0:
        if probed.returncode != 2:
            quit_with(f"asking torch for the GPU failed with status {probed.returncode}")
        sys.exit(2)
    device = json.loads(probed.stdout.splitlines()[-1])
    arguments.pack, manifest = find_pack(arguments.pack, device["capability"])
    out = arguments.out or os.environ.get("OUT") or "."
    os.makedirs(out, exist_ok=True)
    report = {"schema": 1, "device": device, "arch": manifest.get("arch"), "toolchain": manifest.get("toolchain"), "problems": []}
    parts = {phase: os.path.join(out, f"part-{phase}.json") for phase in phases}
    for path in parts.values():
        if os.path.exists(path):
            os.remove(path)

    def merge():
        for phase, path in parts.items():
            if os.path.exists(path):
                part = Part(path).data
                report.update({key: part.pop(key) for key in ("manifest_hash", "runtime") if key in part})
                report[phase] = part
        report["summary"] = summarise(report)
        report["seconds"] = round(time.time() - begin, 1)
        write_json(os.path.join(out, REPORT), report)

    print(f"{device['name']}, {device['sms']} SMs, torch {device['torch']}, pack {arguments.pack}", flush=True)
    for at, phase in enumerate(phases):
        now = time.time()
        share = 1.0 if at + 1 == len(phases) else SHARE[phase]
        deadline = now + (begin + arguments.budget_s - now) * share
        print(f"{phase}: {max(0, deadline - now):.0f} s", flush=True)
        if phase == "tune":
            problem = run_tune(out, deadline)
        else:
            problem = run_phase(phase, arguments, parts[phase], deadline, merge)
        if problem:
            report["problems"].append(f"{phase}: {problem}")
            if "manifest_hash" not in report:
                break  # the pack or the GPU was refused; the other phases would say the same
    merge()
    for path in parts.values():
        if os.path.exists(path):
            os.remove(path)
    summary = report["summary"]
    overall = summary["geomean_of_cublas"].get("all")
    print(f"{summary['right']} of {summary['checked']} checks right, {summary['failures']} failures; "
          f"geomean {f'{overall:.3f} x cuBLAS' if overall else 'not measured'}; {os.path.join(out, REPORT)}")
    for group in ("prefill", "decode"):
        ratio = summary["attention"][f"{group}_of_best_peer"]
        print(f"attention {group}: {f'geomean {ratio:.3f} x the best peer' if ratio else 'not measured'}")
    import gemm_mixed
    import sparse

    for line in gemm_mixed.closing_lines(summary["mixed"]) + sparse.closing_lines(summary["sparse"]):
        print(line)
    sys.exit(2 if report["problems"] and not report.get("manifest_hash") else 1 if summary["failures"] or report["problems"] else 0)


if __name__ == "__main__":
    sys.modules["run"] = sys.modules["__main__"]  # what attention.py imports is this module, not a second one
    main()
