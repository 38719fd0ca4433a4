"""The ops that stand beside mixed-precision GEMMs, checked on a GPU: `quantize` against its definition in float64, `gemm_pack`
against gemm_mixed_data.py's packing, bit for bit.

Functions below `sources` need torch; they run on any device."""

import gemm_mixed_data as data
import run

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # columns of a word, from the low nibble up
LARGEST = {"e4m3": 448.0, "i8": 127.0}
FLOOR = 1e-10  # the smallest magnitude a factor is made for
QUANTIZE_SHAPES = [(7, 200), (1, 8), (33, 128), (17, 2880), (3, 1025)]  # (m, k)
PACK_SHAPES = [(264, 640), (64, 128), (1000, 1152)]  # (n, k)


def small_plans(manifest):
    """(plan, fields, sizes) of every check, and why plans are left out, by id."""
    cases, left_out = [], {}
    for plan in manifest["plans"]:
        fields = run.parse_class(plan["class"])
        if plan["op"] == "quantize":
            cases += [(plan, fields, {"m": m, "n": 1, "k": k}) for m, k in QUANTIZE_SHAPES]
        elif plan["op"] == "gemm_pack" and fields["perm"] == "1":
            left_out[plan["id"]] = "no reference for perm=1"
        elif plan["op"] == "gemm_pack":
            cases += [(plan, fields, {"m": 1, "n": n, "k": k, "batch": 1, "group": 128}) for n, k in PACK_SHAPES]
    return cases, left_out


def form_of(fields):
    """The class of a multiplication by what a packing leaves."""
    act, dtype = "swiglu" if fields["gates"] == "2" else "none", fields["dtype"]
    return data.Form(f"a={dtype},b=nk,out={dtype},act={act},bias=0,residual=0,weight={fields['weight']}")


# ---------------------------------------------------------------------------------------------------------- sources


def words_of(values, bits):
    """[..., 32/bits] numbers to a word each, the first in the low bits."""
    import torch

    words = sum(values[..., at].to(torch.int64) << (bits * at) for at in range(32 // bits))
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


def sources(kind, codes, scale, zero, bits):
    """A checkpoint's tensors by name from codes `[n, k]`, scale and zero `[n, groups]`; `kind` is a class's source."""
    import torch

    if kind.startswith("int"):
        q = codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4
        raw = {"q": q.to(torch.uint8), "scale": scale}
        return {**raw, "zero": zero.to(torch.uint8)} if zero is not None else raw
    across = lambda x, order: words_of(x.T.unflatten(-1, (-1, 32 // bits))[..., order], bits)  # along n
    if kind == "awq":
        return {"qweight": across(codes, AWQ_ORDER), "qzeros": across(zero, AWQ_ORDER), "scales": scale.T.contiguous()}
    stored = (zero - 1) % (1 << bits) if kind.endswith("v1") else zero
    down = words_of(codes.unflatten(-1, (-1, 32 // bits)), bits).T.contiguous()
    return {"qweight": down, "qzeros": across(stored, list(range(32 // bits))), "scales": scale.T.contiguous()}


def check_pack(op, fields, sizes):
    import torch

    form, n, k = form_of(fields), sizes["n"], sizes["k"]
    wide, groups, most = form.gates * n, -(-k // sizes["group"]), 1 << form.bits
    generator = torch.Generator(device=data.DEVICE).manual_seed(n + k)
    draw = lambda *shape: torch.randint(0, most, shape, generator=generator, device=data.DEVICE)
    codes, zero = draw(wide, k), draw(wide, groups) if form.zero else None
    of = {name: dtype for name, dtype, *_ in op.tensors}
    scale = torch.rand((wide, groups), generator=generator, device=data.DEVICE) + 0.5
    scale = scale.to(data.dtype_of(of.get("scale") or of["scales"]))
    given = sources(fields["source"], codes, scale, zero, form.bits)
    shapes = {name: shape for name, _, _, shape, _ in op.tensors}
    found = run.guarded_runs(op, {name: tensor.view(shapes[name]) for name, tensor in given.items()})
    want = packed(form, n, codes, scale, zero)
    wrong = int((found[0]["packed"].view(want.shape) != want).sum())
    if wrong:
        return {"status": "failed", "why": f"{wrong} of {want.numel()} words differ"}
    if any(not torch.equal(other["packed"], found[0]["packed"]) for other in found[1:]):
        return {"status": "failed", "why": "runs on equal data differ in bits"}
    return {"status": "ok", "words": want.numel()}


def packed(form, n, codes, scale, zero):
    """What a packing must leave: [row blocks, column blocks, words]."""
    import torch

    gates = [slice(gate * n, (gate + 1) * n) for gate in range(form.gates)]
    parts = [data.pack(form, codes[None, at], scale[None, at], None if zero is None else zero[None, at])[0] for at in gates]
    return torch.stack(parts, 1).flatten(0, 1)


def check_quantize(op, fields, sizes):
    import torch

    m, k = sizes["m"], sizes["k"]
    generator = torch.Generator(device=data.DEVICE).manual_seed(m + k)
    x = torch.rand((m, k), generator=generator, device=data.DEVICE) * 2 - 1
    # Rows of ones, of zeros, of almost nothing and of much.
    x *= torch.tensor([1.0, 0.0, 1e-12, 3e4], device=data.DEVICE).repeat(-(-m // 4))[:m, None]
    x = x.to(data.dtype_of(fields["in"]))
    outputs = run.guarded_runs(op, {"x": x})
    result = judge_quantize(fields, x, outputs[0]["q"], outputs[0]["scale"])
    same = lambda a, b: torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
    if result["status"] == "ok" and any(not same(other[name], outputs[0][name]) for other in outputs[1:] for name in ("q", "scale")):
        result.update(status="failed", why="runs on equal data differ in bits")
    return result


def judge_quantize(fields, x, q, scale):
    """Factors to a last bit or two of f32, codes to nearest."""
    import torch

    (m, k), to = x.shape, fields["to"]
    block = k if fields["block"] == "row" else int(fields["block"])
    x, q, found = x.double(), q.double().view(m, k), scale.double().view(m, -1)
    whole = torch.nn.functional.pad(x, (0, -k % block)).view(m, -1, block)
    want = whole.abs().amax(-1).clamp(min=FLOOR) / LARGEST[to]
    if not bool(((found - want).abs() <= want * 2.0**-22).all()):
        return {"status": "failed", "why": f"a factor is {((found - want).abs() / want).max().item():.3g} off, as a part of it"}
    factor = found.repeat_interleave(block, -1)[:, :k]
    # Half a step: of integers everywhere the same, of e4m3 a sixteenth of the number, at least half its smallest.
    half = 0.5 * factor if to == "i8" else torch.maximum(x.abs() * 2.0**-4, factor * 2.0**-10)
    error = (q * factor - x).abs()
    if not bool((error <= half * 1.00001).all()):
        return {"status": "failed", "why": f"{int((~(error <= half * 1.00001)).sum())} of {q.numel()} codes are not the nearest"}
    return {"status": "ok", "error": error.max().item()}


CHECKS = {"quantize": check_quantize, "gemm_pack": check_pack}
