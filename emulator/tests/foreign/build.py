#!/usr/bin/env python3
"""Compiles src/*.py with Triton and src/*.cu with nvcc to ptx/*.ptx. No GPU is needed.

    python3 -m venv /tmp/foreign
    /tmp/foreign/bin/pip install triton==3.6.0 numpy nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
    /tmp/foreign/bin/python emulator/tests/foreign/build.py [words of fixture names]

    python3 -m venv /tmp/foreign39
    /tmp/foreign39/bin/pip install triton==3.9.0 numpy
    /tmp/foreign39/bin/python emulator/tests/foreign/build.py     # the fixtures whose names end in _39

The texts are kept as the compilers print them. launch.json says what a launcher would learn from the compiler: the
entry, the threads of a block and the bytes of dynamic shared memory, and the layout of tensor descriptors.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp())
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

HERE = Path(__file__).resolve().parent
BOTH = (80, 90)
F16, BF16, F32, I32, I64 = "*fp16", "*bf16", "*fp32", "*i32", "*i64"
TILE = dict(BLOCK_M=64, BLOCK_N=64, BLOCK_K=32)
WIDE = dict(BLOCK_M=64, BLOCK_N=64, BLOCK_K=64)
MATMUL = dict(GROUP_M=4, ACC="float32", ACTIVATION="")


def strides(*kept):
    """Strides of a, b and c; those of 1 are constants, as Triton specialises them."""
    names = ["stride_am", "stride_ak", "stride_bk", "stride_bn", "stride_cm", "stride_cn"]
    return {name: ("i32" if name in kept else 1) for name in names}


ROWS = strides("stride_am", "stride_bk", "stride_cm")
B_COLUMNS = strides("stride_am", "stride_bn", "stride_cm")


def matmul(a, c, **more):
    return dict(a_ptr=a, b_ptr=a, c_ptr=c, M="i32", N="i32", K="i32", **more)


def desc(dtype, rows, cols):
    return f"tensordesc<{dtype}[{rows}, {cols}]>"


def maps(m, n, k):
    return dict(a_desc=desc("bf16", m, k), b_desc=desc("bf16", n, k), c_desc=desc("bf16", m, n),
                M="i32", N="i32", K="i32", BLOCK_M=m, BLOCK_N=n, BLOCK_K=k)


def attention(dtype, causal, head_dim, block_m, block_n):
    return dict(q_ptr=dtype, k_ptr=dtype, v_ptr=dtype, o_ptr=dtype, lse_ptr=F32, scale="fp32", S="i32",
                HEAD_DIM=head_dim, CAUSAL=causal, BLOCK_M=block_m, BLOCK_N=block_n)


# name, file, kernel, architectures, argument types or values of constants, options. An argument whose name ends in
# `_ptr`, a descriptor and what `aligned` names are multiples of 16.
TRITON = [
    ("matmul_bf16", "matmul", "matmul", BOTH, matmul(BF16, BF16, **ROWS, **WIDE, **MATMUL),
     dict(num_stages=3, aligned=("stride_am", "stride_bk", "stride_cm", "K"))),
    ("matmul_fp16_relu", "matmul", "matmul", BOTH,
     matmul(F16, F16, **ROWS, **TILE, **MATMUL | dict(ACTIVATION="leaky_relu")), dict(num_warps=8)),
    ("matmul_tf32", "matmul", "matmul", BOTH, matmul(F32, F32, **ROWS, **TILE, **MATMUL), dict(num_stages=2)),
    ("matmul_int8", "matmul", "matmul", BOTH, matmul("*i8", I32, **B_COLUMNS, **WIDE, **MATMUL | dict(ACC="int32")),
     dict(num_stages=3, aligned=("stride_am", "stride_bn", "K"))),
    ("matmul_fp8", "matmul", "matmul", (90,), matmul("*fp8e4nv", BF16, **B_COLUMNS, **WIDE, **MATMUL),
     dict(num_stages=3, aligned=("stride_am", "stride_bn", "K"))),
    ("matmul_split_k", "matmul", "matmul_split_k", BOTH,
     dict(a_ptr=BF16, b_ptr=BF16, c_ptr=F32, M="i32", N="i32", K="i32", SPLIT_K=3, **TILE), {}),
    ("matmul_grouped", "matmul", "matmul_grouped", BOTH, dict(ptrs=I64, sizes=I32, num_groups="i32", **TILE), {}),
    ("matmul_int4", "matmul", "matmul_int4", BOTH,
     dict(a_ptr=F16, q_ptr=I32, scale_ptr=F16, c_ptr=F32, M="i32", N="i32", K="i32", GROUP=64, **TILE),
     dict(aligned=("N", "K"))),
    ("matmul_host_tma", "matmul_tma", "matmul_host_tma", (90,), maps(64, 64, 64), dict(num_stages=3)),
    ("matmul_device_tma", "matmul_tma", "matmul_device_tma", (90,),
     dict(a_ptr=BF16, b_ptr=BF16, c_ptr=BF16, M="i32", N="i32", K="i32", **WIDE),
     dict(num_stages=3, aligned=("N", "K"))),
    ("matmul_persistent", "matmul_tma", "matmul_persistent", (90,), maps(64, 64, 64), dict(num_stages=3)),
    ("matmul_warp_specialized", "matmul_tma", "matmul_warp_specialized", (90,),
     dict(a_desc=desc("bf16", 64, 64), b_desc=desc("bf16", 64, 64), c_ptr=BF16, M="i32", N="i32", K="i32", **WIDE),
     dict(num_stages=3)),
    ("attention", "attention", "attention", BOTH, attention(BF16, False, 64, 64, 64), dict(num_stages=2)),
    ("attention_causal", "attention", "attention", BOTH, attention(F16, True, 64, 64, 32), dict(num_stages=3)),
    ("attention_d128", "attention", "attention", (90,), attention(BF16, False, 128, 128, 64),
     dict(num_warps=8, num_stages=2)),
    ("softmax", "rows", "softmax", BOTH,
     dict(y_ptr=F32, x_ptr=F32, x_stride="i32", y_stride="i32", n_rows="i32", n_cols="i32", BLOCK=1024, num_stages=2), {}),
    ("layernorm", "rows", "layernorm", BOTH,
     dict(x_ptr=F16, y_ptr=F16, w_ptr=F16, b_ptr=F16, mean_ptr=F32, rstd_ptr=F32, stride="i32", N="i32", eps="fp32",
          BLOCK=256), {}),
    ("rmsnorm", "rows", "rmsnorm", BOTH,
     dict(x_ptr=BF16, w_ptr=BF16, y_ptr=BF16, N="i32", eps="fp32", BLOCK=1024), dict(num_warps=2)),
    ("cross_entropy", "rows", "cross_entropy", BOTH,
     dict(logits_ptr=BF16, label_ptr=I64, loss_ptr=F32, grad_ptr=F32, V="i32", BLOCK=256), {}),
    ("reduce_sum", "scans", "reduce_sum", BOTH, dict(x_ptr=I32, out_ptr=I32, n="i32", BLOCK=1024), {}),
    ("reduce_axes", "scans", "reduce_axes", BOTH,
     dict(x_ptr=F32, row_max=F32, row_arg=I32, col_sum=F32, M="i32", N="i32", BLOCK_M=32, BLOCK_N=64), {}),
    ("histogram", "scans", "histogram", BOTH, dict(x_ptr=I32, out_ptr=I32, n="i32", BINS=64, BLOCK=512), {}),
    ("cumsum", "scans", "cumsum", BOTH, dict(x_ptr=I32, y_ptr=I32, z_ptr=I32, N="i32", BLOCK=512), {}),
    ("linear_recurrence", "scans", "linear_recurrence", BOTH,
     dict(a_ptr=F32, b_ptr=F32, h_ptr=F32, T="i32", D="i32", BLOCK_T=64, BLOCK_D=16), {}),
    ("sort_rows", "scans", "sort_rows", BOTH, dict(x_ptr=I32, y_ptr=I32, N="i32", BLOCK=128), dict(num_warps=2)),
    ("topk_rows", "scans", "topk_rows", BOTH, dict(x_ptr=F32, y_ptr=F32, N="i32", K=8, BLOCK=128), dict(num_warps=1)),
    ("atomics", "scans", "atomics", BOTH,
     dict(x_ptr=I32, index_ptr=I32, sum_f16=F16, max_f32=F32, min_i32=I32, or_b32=I32, xor_b32=I32, count_i64=I64,
          n="i32", BLOCK=256), {}),
    ("lock_accumulate", "scans", "lock_accumulate", BOTH,
     dict(x_ptr=F32, sum_ptr=F32, count_ptr=I32, lock_ptr=I32, N="i32", BARRIER=True, BLOCK=256), {}),
    ("lock_tutorial", "scans", "lock_accumulate", (80,),
     dict(x_ptr=F32, sum_ptr=F32, count_ptr=I32, lock_ptr=I32, N="i32", BARRIER=False, BLOCK=256), dict(lines=True)),
    ("transpose", "moves", "transpose", BOTH, dict(x_ptr=F16, y_ptr=F16, M="i32", N="i32", BLOCK_M=64, BLOCK_N=32), {}),
    ("embedding", "moves", "embedding", BOTH, dict(id_ptr=I64, table_ptr=BF16, y_ptr=BF16, D="i32", BLOCK=256), {}),
    ("gather_columns", "moves", "gather_columns", BOTH,
     dict(x_ptr=F32, index_ptr=I32, y_ptr=F32, BLOCK_M=16, BLOCK_N=64), {}),
    ("dropout", "moves", "dropout", BOTH, dict(x_ptr=F32, y_ptr=F32, n="i32", p="fp32", seed="i32", BLOCK=1024), {}),
    ("gelu_erf", "moves", "gelu_erf", BOTH, dict(x_ptr=BF16, y_ptr=F32, n="i32", BLOCK=512), {}),
    ("quantize_fp8", "moves", "quantize_fp8", (90,),
     dict(x_ptr=BF16, y_ptr="*fp8e4nv", scale_ptr=F32, N="i32", BLOCK=512), {}),
    ("conv2d", "moves", "conv2d", BOTH,
     dict(x_ptr=F16, w_ptr=F16, y_ptr=F16, B="i32", H="i32", W="i32", OC="i32", OH="i32", OW="i32", C=32, R=3, S=3,
          STRIDE=2, PAD=1, BLOCK_M=64, BLOCK_N=32), {}),
]

# Triton 3.6 forgets a proxy fence between cp.async and wgmma in most of these, and mbarriers overlap in
# the last; later releases do better: built by 3.9 as well, under the name with `_39`.
LATER = {"matmul_tf32", "matmul_int8", "matmul_fp8", "attention", "attention_causal", "attention_d128",
         "matmul_warp_specialized"}

# file, architectures: one module for each file, which may hold several entries.
CUDA = [
    ("reduce", ("80", "90a")),
    ("blocks", ("80", "90a")),
    ("lanes", ("80", "90a")),
    ("gemm", ("80", "90a")),
    ("wmma", ("80", "90a")),
    ("attention_f32", ("80", "90a")),
    ("pipeline", ("80", "90a")),
    ("calls", ("80", "90a")),
    ("print", ("80", "90a")),
    ("cluster", ("90a",)),
    ("hopper", ("90a",)),
]


def load(name):
    # From a folder whose name says nothing of this machine: line information has it.
    folder = Path("/tmp/foreign/src")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "src" / f"{name}.py", folder)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_triton(name, file, kernel, arch, arguments, options):
    fn = getattr(load(file), kernel)
    options = dict(options)
    aligned = options.pop("aligned", ())
    types = (str.startswith, ("*", "i", "fp", "u", "tensordesc"))
    is_type = lambda value: isinstance(value, str) and types[0](value, types[1]) and value not in ("int32", "float32")  # noqa: E731
    signature, constants, attributes = {}, {}, {}
    for index, argument in enumerate(fn.arg_names):
        value = arguments[argument]
        if is_type(value):
            signature[argument] = value
            if value.startswith("*") or argument in aligned:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "constexpr"
            constants[argument] = {"int32": triton.language.int32, "float32": triton.language.float32}.get(value, value)
    source = ASTSource(fn, signature=signature, constexprs=constants, attrs=attributes)
    triton.knobs.compilation.disable_line_info = not options.pop("lines", False)
    done = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    meta = done.metadata
    threads = int(re.search(r"\.reqntid (\d+)", done.asm["ptx"])[1])
    what = {"entry": meta.name, "threads": threads, "shared": meta.shared}
    if meta.global_scratch_size:
        what["scratch"] = meta.global_scratch_size
        what["scratch_align"] = meta.global_scratch_align
    if getattr(meta, "tensordesc_meta", None):
        what["maps"] = meta.tensordesc_meta
    return done.asm["ptx"], what


def build_cuda(file, arch):
    root = Path(importlib.util.find_spec("nvidia").submodule_search_locations[0]) / "cu13"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.ptx"
        subprocess.run([root / "bin" / "nvcc", "-std=c++17", "-O3", f"-arch=sm_{arch}", "-ptx", f"{file}.cu", "-o", out],
                       check=True, cwd=HERE / "src")
        return out.read_text()


def main(words):
    table = HERE / "ptx" / "launch.json"
    launches = json.loads(table.read_text()) if table.exists() else {}
    failed = []
    wanted = lambda name: not words or any(word in name for word in words)  # noqa: E731
    later = triton.__version__ != "3.6.0"
    for name, file, kernel, archs, arguments, options in TRITON:
        for arch in archs:
            if later and (name not in LATER or arch != 90):
                continue
            full = f"{name}{'_39' if later else ''}.sm_{'90a' if arch == 90 else arch}"
            if wanted(full):
                try:
                    text, launches[full] = build_triton(name, file, kernel, arch, arguments, options)
                    (HERE / "ptx" / f"{full}.ptx").write_text(text)
                    print(full, len(text), launches[full])
                except Exception as error:
                    failed.append(f"{full}: {str(error)[:2000]}")
    for file, archs in [] if later else CUDA:
        for arch in archs:
            if wanted(f"{file}.sm_{arch}"):
                try:
                    text = build_cuda(file, arch)
                    (HERE / "ptx" / f"{file}.sm_{arch}.ptx").write_text(text)
                    print(file, arch, len(text))
                except subprocess.CalledProcessError as error:
                    failed.append(f"{file}: {error}")
    table.write_text(json.dumps(dict(sorted(launches.items())), indent=1) + "\n")
    if failed:
        sys.exit("\n\n".join(failed))


if __name__ == "__main__":
    main(sys.argv[1:])
