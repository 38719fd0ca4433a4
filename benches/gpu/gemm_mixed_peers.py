"""What a mixed-precision GEMM is measured against: torch's own kernels, and from a folder (`--peers`) Humming, Marlin and Machete
of vLLM, and DeepGEMM.

The folder holds what was unpacked of their wheels: Python packages (`humming/`, `deep_gemm/`) beside each other and vLLM's
extension modules (`_C*.so`) anywhere below. What is missing or does not load is one line of the report. Weights are random numbers
of the right shape in each peer's own format. Every peer turns through as many copies of its weight as L2 needs to be cold.
"""

import glob
import os
import sys

import attention
import gemm_mixed_data as data
import run

GROUP = 128
IEEE_NAN = 1 << 50


def scalar_type(bits, bias):
    """vLLM's number for unsigned integers with a bias: exponent bits from bit 0, mantissa from 8, sign at 16, bias from 17."""
    return bits << 8 | bias << 17 | IEEE_NAN


UINT4B8, UINT8B128 = scalar_type(4, 8), scalar_type(8, 128)


def by_schema(arguments, known):
    """Keyword arguments of a torch op from what is `known`; `arguments` are (name, has a default, may be None)."""
    chosen = {}
    for name, has_default, optional in arguments:
        if name in known:
            chosen[name] = known[name]
        elif not has_default:
            if not optional:
                raise RuntimeError(f"this build's op wants `{name}`, which the script does not know")
            chosen[name] = None
    return chosen


def call(op, **known):
    """Calls a torch op whose arguments differ from version to version, by their names."""
    schema = op.default._schema
    arguments = [(a.name, a.has_default_value(), "Optional" in str(a.type)) for a in schema.arguments]
    chosen = by_schema(arguments, known)
    return op(**chosen)


class Peers:
    """The peers that are there."""

    def __init__(self, folder):
        self.folder, self.why, self.humming, self.deep_gemm, self.vllm = folder, {}, None, None, None
        if folder is None:
            self.why = {name: "no folder was given (--peers DIR)" for name in ("humming", "marlin, machete", "deep_gemm")}
            return
        sys.path.insert(0, os.path.abspath(folder))
        for name in ("humming", "deep_gemm"):
            try:
                setattr(self, name, __import__(name))
            except Exception as error:  # a wheel built for another torch or CUDA fails in many ways
                self.why[name] = run.first_line(error)
        self.load_vllm(folder)

    def load_vllm(self, folder):
        import torch

        found = sorted(glob.glob(os.path.join(folder, "**", "_C*.so"), recursive=True))
        if not found:
            self.why["marlin, machete"] = f"no _C*.so below {folder}"
        for path in found:
            try:
                torch.ops.load_library(path)
                self.vllm = torch.ops._C
            except Exception as error:
                self.why[os.path.basename(path)] = run.first_line(error)
        for name in ("marlin_gemm", "machete_mm"):
            if self.vllm is not None and not hasattr(self.vllm, name):
                self.why[name] = "the extension modules have no such op"

    def of(self, op, form, sizes, given):
        """({name: function of a set's index}, {name: why not}) for a problem; `given` is the first set of operands."""
        makers = grouped_makers(self, form) if op == "gemm_grouped" else dense_makers(self, form)
        made, why = {}, {}
        for name, maker in makers.items():
            try:
                made[name] = maker(form, sizes, given)
                made[name](0)
            except Exception as error:  # an op that torch lacks, a shape it refuses, a compiler that is missing
                import torch

                if isinstance(error, torch.cuda.OutOfMemoryError):
                    torch.cuda.empty_cache()
                made.pop(name, None)
                why[name] = run.first_line(error)
        return made, why


def dense_makers(peers, form):
    """Peers of a format, by name."""
    makers = {"torch bf16": torch_bf16}
    if form.bits == 4:
        makers["tinygemm"] = tinygemm
    if form.bits == 8:
        makers["_weight_int8pack_mm"] = int8pack
    if form.bits and peers.vllm is not None:
        built = {"marlin": ("marlin_gemm", marlin), "machete": ("machete_mm", machete)}
        makers.update({name: maker(peers) for name, (op, maker) in built.items() if hasattr(peers.vllm, op)})
    if form.bits and peers.humming is not None:
        makers["humming"] = humming
    if form.a == "e4m3":
        makers["_scaled_mm"] = scaled_mm
        if form.a_scale == "block" and peers.deep_gemm is not None:
            makers["deep_gemm"] = deep_gemm(peers)
    if form.a == "i8":
        makers["_int_mm, no scales"] = int_mm
    return makers


def grouped_makers(peers, form):
    makers = {"_grouped_mm bf16": grouped_mm}
    if form.a == "e4m3":
        makers["_scaled_grouped_mm, rows"] = scaled_grouped_mm
        if form.a_scale == "block" and peers.deep_gemm is not None:
            makers["deep_gemm, contiguous"] = deep_gemm_grouped(peers)
    return makers


# ---------------------------------------------------------------------------------------------------------- torch


def copies(weight_bytes, make):
    """As many of what `make(seed)` gives as L2 needs to be cold, and a function from a set's index to one of them."""
    made = [make(seed) for seed in range(attention.n_sets(weight_bytes))]
    return lambda index: made[index % len(made)]


def bf16_like(seed, *shape):
    return attention.normal(seed, *shape)


def a_bf16(given, sizes):
    """The first operand's size in bf16."""
    return bf16_like(99, given["a"].numel() // sizes["k"], sizes["k"])


def torch_bf16(form, sizes, given):
    import torch

    n, k = form.gates * sizes["n"], sizes["k"]
    a, weight = a_bf16(given, sizes), copies(2 * n * k, lambda seed: bf16_like(seed, n, k))
    return lambda index: torch.nn.functional.linear(a, weight(index))


def tinygemm(form, sizes, given):
    import torch

    n, k = sizes["n"], sizes["k"]
    a = a_bf16(given, sizes)

    def make(seed):
        codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
        return torch.ops.aten._convert_weight_to_int4pack(codes, 8), bf16_like(seed, k // GROUP, n, 2)

    weight = copies(n * k // 2, make)
    return lambda index: torch.ops.aten._weight_int4pack_mm(a, weight(index)[0], GROUP, weight(index)[1])


def int8pack(form, sizes, given):
    import torch

    n, k = sizes["n"], sizes["k"]
    a = a_bf16(given, sizes)
    weight = copies(n * k, lambda seed: (torch.randint(-127, 128, (n, k), dtype=torch.int8, device="cuda"), bf16_like(seed, n)))
    return lambda index: torch.ops.aten._weight_int8pack_mm(a, *weight(index))


def e4m3(seed, *shape):
    return attention.normal(seed, *shape).to(data.dtype_of("e4m3"))


def ones(*shape):
    import torch

    return torch.ones(shape, device="cuda")


def scaled_mm(form, sizes, given):
    import torch

    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    a, weight = given["a"].reshape(m, k), copies(n * k, lambda seed: e4m3(seed, n, k))
    # Scales of blocks of a are wanted with rows next to each other.
    scales = {
        "tensor": lambda: (ones(1), ones(1)), "row": lambda: (ones(m, 1), ones(1, n)),
        "block": lambda: (ones(k // 128, m).t(), ones(n // 128, k // 128).t()),
    }[form.a_scale]()
    options = {"scale_a": scales[0], "scale_b": scales[1], "out_dtype": torch.bfloat16, "use_fast_accum": form.a_scale != "block"}
    return lambda index: torch._scaled_mm(a, weight(index).t(), **options)


def int_mm(form, sizes, given):
    import torch

    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    a = given["a"].reshape(m, k)
    weight = copies(n * k, lambda seed: torch.randint(-127, 128, (n, k), dtype=torch.int8, device="cuda"))
    return lambda index: torch._int_mm(a, weight(index).t())


def grouped_mm(form, sizes, given):
    import torch

    e, n, k, ends = sizes["e"], sizes["n"], sizes["k"], given["offsets"][1:]
    a, weight = a_bf16(given, sizes), copies(2 * e * n * k, lambda seed: bf16_like(seed, e, n, k))
    return lambda index: torch._grouped_mm(a, weight(index).transpose(-2, -1), offs=ends)


def scaled_grouped_mm(form, sizes, given):
    import torch

    e, n, k, ends = sizes["e"], sizes["n"], sizes["k"], given["offsets"][1:]
    a, weight = given["a"].reshape(-1, k), copies(e * n * k, lambda seed: e4m3(seed, e, n, k))
    options = {"offs": ends, "out_dtype": torch.bfloat16, "use_fast_accum": True}
    scales = ones(len(a)), ones(e, n)
    return lambda index: torch._scaled_grouped_mm(a, weight(index).transpose(-2, -1), *scales, **options)


# ---------------------------------------------------------------------------------------------------------- others


def words(*shape):
    import torch

    return torch.randint(-(1 << 31), 1 << 31, shape, dtype=torch.int64, device="cuda").to(torch.int32)


def marlin(peers):
    def maker(form, sizes, given):
        import torch

        m, n, k = sizes["m"], sizes["n"], sizes["k"]
        a, kind = a_bf16(given, sizes), UINT4B8 if form.bits == 4 else UINT8B128
        # 16 rows of k in a row of words.
        weight = copies(n * k * form.bits // 8, lambda seed: (words(k // 16, n * form.bits // 2), bf16_like(seed, k // GROUP, n)))
        workspace = torch.zeros(4 * torch.cuda.get_device_properties(0).multi_processor_count, dtype=torch.int32, device="cuda")

        def launch(index):
            codes, scales = weight(index)
            call(
                peers.vllm.marlin_gemm, a=a, b_q_weight=codes, b_scales=scales, workspace=workspace, b_type_id=kind, b_q_type=kind,
                size_m=m, size_n=n, size_k=k, is_k_full=True, use_atomic_add=False, use_fp32_reduce=True, is_zp_float=False,
            )

        return launch

    return maker


def machete(peers):
    def maker(form, sizes, given):
        import torch

        n, k = sizes["n"], sizes["k"]
        a, kind = a_bf16(given, sizes), UINT4B8 if form.bits == 4 else UINT8B128

        def make(seed):
            codes = words(n, k * form.bits // 32).t()  # columns next to each other
            types = {name: torch.bfloat16 for name in ("a_type", "group_scales_type", "maybe_group_scales_type")}
            packed = call(peers.vllm.machete_prepack_B, B=codes, b_q_weight=codes, b_type=kind, b_type_id=kind, **types)
            return packed, bf16_like(seed, k // GROUP, n)

        weight = copies(n * k * form.bits // 8, make)

        def launch(index):
            codes, scales = weight(index)
            known = {"A": a, "a": a, "B": codes, "b_q": codes, "b_type": kind, "b_type_id": kind}
            known.update({f"{start}group_scales": scales for start in ("", "b_", "maybe_")})
            known.update({f"{start}group_size": GROUP for start in ("", "b_", "maybe_")})
            call(peers.vllm.machete_mm, **known)

        return launch

    return maker


def humming(form, sizes, given):
    import torch
    from humming.layer import HummingLayer

    n, k = sizes["n"], sizes["k"]
    a = a_bf16(given, sizes)

    def make(seed):
        kind = {"dtype": f"uint{form.bits}", "group_size": GROUP, "scale_dtype": "bfloat16", "has_zero_point": False}
        a_kind = {"dtype": "bfloat16"}
        layer = HummingLayer(shape_n=n, shape_k=k, weight_config=kind, input_config=a_kind, torch_dtype=torch.bfloat16).to("cuda:0")
        for tensor in layer.parameters():
            tensor.data.copy_(words(*tensor.shape) if tensor.dtype == torch.int32 else bf16_like(seed, *tensor.shape))
        layer.transform()
        return layer

    weight = copies(n * k * form.bits // 8, make)
    return lambda index: weight(index)(inputs=a)


def deep_gemm(peers):
    def maker(form, sizes, given):
        import torch

        m, n, k = sizes["m"], sizes["n"], sizes["k"]
        a = (given["a"].reshape(m, k), ones(-(-k // 128), -(-m // 4) * 4).t()[:m])  # rows next to each other, 16 bytes aligned
        weight = copies(n * k, lambda seed: (e4m3(seed, n, k), ones(-(-n // 128), -(-k // 128))))
        d = torch.empty(m, n, dtype=torch.bfloat16, device="cuda")
        return lambda index: peers.deep_gemm.fp8_gemm_nt(a, weight(index), d)

    return maker


def deep_gemm_grouped(peers):
    def maker(form, sizes, given):
        import torch

        e, n, k = sizes["e"], sizes["n"], sizes["k"]
        # Each expert's rows begin at a multiple of 128 there.
        owners = [at for at, count in enumerate(sizes["counts"]) for _ in range(-(-count // 128) * 128)]
        rows = len(owners)
        index_of = torch.tensor(owners, dtype=torch.int32, device="cuda")
        a = (e4m3(5, rows, k), ones(k // 128, rows).t())
        weight = copies(e * n * k, lambda seed: (e4m3(seed, e, n, k), ones(e, -(-n // 128), k // 128)))
        d = torch.empty(rows, n, dtype=torch.bfloat16, device="cuda")
        return lambda index: peers.deep_gemm.m_grouped_fp8_gemm_nt_contiguous(a, weight(index), d, index_of)

    return maker
