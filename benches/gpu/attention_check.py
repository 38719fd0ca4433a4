"""Every attention plan of a pack against float64: |out - ref| <= 2 |lowp - ref| + slack, over the largest element.

`ref` is the textbook formula in float64; `lowp` the same in float32 with the weights and the result rounded to the plan's
dtype, as every fused attention rounds them. Outputs are poisoned with NaN, guard bytes lie around every tensor, slots and
table entries that no token has hold NaN and wild ids, and equal inputs must give equal bits. Functions below `plan_cases`
need torch; the reference runs on any device.
"""

import math

import attention
import run

# (batch, sq, sk, hq, hkv); a prefix is that many tokens.
FORWARD = [
    (2, 133, 265, 4, 2), (1, 1, 1, 1, 1), (1, 17, 384, 2, 1), (1, 263, 3, 1, 1), (3, 5, 129, 3, 3), (1, 1000, 1000, 8, 2),
    (1, 2048, 2048, 4, 4),
]
# (sq, hq, hkv, page, lengths, splits, split_size)
DECODE = [
    (1, 4, 2, 16, (1, 0, 67), 0, 0), (3, 8, 1, 1, (7, 128), 0, 0), (8, 2, 2, 64, (640, 9, 300), 0, 0),
    (1, 32, 8, 64, (4096, 77), 0, 0), (2, 6, 3, 128, (513, 1000), 3, 0), (1, 8, 8, 16, (1500, 40), 0, 256), (1, 5, 1, 5, (64, 63), 1, 0),
]
MERGE = [(3, 2, 3, 5, 72), (1, 1, 1, 1, 4), (9, 3, 1, 8, 64), (128, 1, 2, 2, 256)]  # parts, batch, sq, hq, dv
PAGES = [(7, 16, 3, 4), (1, 1, 1, 1), (40, 64, 8, 4)]  # pages, page, hkv, sub
SELECT = [(2, 1, 16, 3, (1, 0, 100)), (6, 3, 4, 5, (90, 19)), (32, 8, 16, 64, (8192, 333))]  # hq, hkv, page, top, lengths
FLAGS = ("causal", "window", "chunk", "softcap", "alibi", "sink")
WINDOW, CHUNK, SOFTCAP, BLOCK, STREAM = (37, 2), 29, 5.0, (64, 32), (5, 40)


def terms(fields):
    """(sizes, numbers) of the masks and score terms of a class."""
    on = lambda name: fields[name] == "1"
    sizes, numbers = {}, {"scale": int(fields["d"]) ** -0.5}
    if on("window"):
        sizes.update(window_left=WINDOW[0], window_right=WINDOW[1])
    if on("chunk"):
        sizes["chunk"] = CHUNK
    if on("softcap"):
        numbers["softcap"] = SOFTCAP
    return sizes, numbers


def forward_problem(fields, shape):
    """(sizes, numbers) of a forward of a class; `shape` is a row of FORWARD."""
    batch, sq, sk, hq, hkv = shape
    sizes, numbers = terms(fields)
    sizes = attention.forward_sizes(batch, sq, sk, hq, hkv, **sizes)
    if fields["varlen"] == "1":
        lengths = varlen(batch, sq), varlen(batch, sk)
        sizes.update(total_q=sum(lengths[0]), total_k=sum(lengths[1]))
    if fields["bias"] != "none":
        sizes.update(bias_b=1, bias_h=hq, bias_q=sq, bias_k=sk)
    if "mask" in fields["sparse"]:
        sizes.update(mask_b=1, mask_h=hq, mask_q=-(-sq // BLOCK[0]), mask_k=-(-sk // BLOCK[1]))
        sizes.update(block_m=BLOCK[0], block_n=BLOCK[1])
    if "heads" in fields["sparse"]:
        sizes.update(sink_tokens=STREAM[0], recent_tokens=STREAM[1])
    if fields.get("prefix") == "1":
        sizes["prefix"] = 3 + sk // 2
    return sizes, numbers


def varlen(batch, longest):
    """Lengths of sequences, the first the longest and the second empty."""
    return [longest if b == 0 else 0 if b == 1 else 1 + longest // (b + 1) for b in range(batch)]


def decode_problem(fields, shape):
    """(sizes, numbers) of a decode; two pages belong to nobody, and table rows are longer than any sequence."""
    sq, hq, hkv, page, lengths, splits, split_size = shape
    sizes, numbers = terms(fields)
    used = [-(-n // page) for n in lengths]
    n_select = max(used) // 2 + 1 if fields["select"] != "none" else 0
    sizes = attention.decode_sizes(
        len(lengths), sq, hq, hkv, sum(used) + 2, page, max(used) + 2, n_select, splits, split_size, **sizes
    )
    return sizes, numbers


def select_problem(fields, shape):
    hq, hkv, page, top, lengths = shape
    used, sub = [-(-n // page) for n in lengths], 3 if fields["logical"] == "1" else 1
    d = int(fields["d"])
    return attention.select_sizes(len(lengths), hq, hkv, d, sum(used) + 2, page, max(used) + 2, top, sub), {}


def stats_problem(fields, shape):
    pages, page, hkv, sub = shape
    sub = sub if fields["logical"] == "1" else 1
    return attention.stats_sizes(pages, page, hkv, int(fields["d"]), sub), {}


# Op: its shapes, its problem, and the name of the function that checks a prepared plan.
OPS = {
    "attention": (FORWARD, forward_problem, "check_forward"),
    "attention_decode": (DECODE, decode_problem, "check_decode"),
    "attention_merge": (MERGE, lambda fields, shape: (attention.merge_sizes(*shape), {}), "check_merge"),
    "page_stats": (PAGES, stats_problem, "check_stats"),
    "page_select": (SELECT, select_problem, "check_select"),
}


def plan_cases(manifest):
    """(key, plan, fields, shape, sizes, numbers): all plans on the first shape, then on the next."""
    for at in range(max(len(op[0]) for op in OPS.values())):
        for plan in manifest["plans"]:
            shapes, problem, _ = OPS.get(plan["op"], ((), None, None))
            if at < len(shapes):
                fields = run.parse_class(plan["class"])
                sizes, numbers = problem(fields, shapes[at])
                yield f"{plan['id']} {'x'.join(map(name, shapes[at]))}", plan, fields, shapes[at], sizes, numbers


def name(extent):
    return "-".join(map(str, extent)) if isinstance(extent, tuple) else str(extent)


def phase(runtime, manifest, part, deadline):
    kernels = {kernel["id"]: kernel for kernel in manifest["kernels"]}
    cases, refused = [], {}
    for key, plan, fields, shape, sizes, numbers in plan_cases(manifest):
        problem = run.Problem(sizes, numbers)
        condition = runtime.admits(plan["id"], problem)
        if condition:
            refused[key] = condition
            continue
        cubic = any(kernels[launch["kernel"]]["config"].get("exp_fma", "0") != "0" for launch in plan["launches"])

        def case(plan=plan, fields=fields, shape=shape, sizes=sizes, numbers=numbers, problem=problem, cubic=cubic):
            op = run.Op(runtime, plan["id"], problem)
            try:
                return globals()[OPS[plan["op"]][2]](op, fields, shape, sizes, numbers, cubic)
            finally:
                op.close()

        cases.append((key, case))
    lacking = [op for op in OPS if not any(plan["op"] == op for plan in manifest["plans"])]
    part.data["notes"] = {"refused_by_requires": refused, "ops_missing_from_pack": lacking}
    if lacking:
        print(f"  not in the pack: {', '.join(lacking)}", flush=True)
    run.run_cases(part, cases, deadline)
    part.save()


# ---------------------------------------------------------------------------------------------------------- reference


def visible(fields, positions, n_keys):
    """What masks of a class leave: [queries, keys]."""
    import torch

    p, j = positions[:, None], torch.arange(n_keys, device=positions.device)[None]
    seen = torch.ones(len(positions), n_keys, dtype=torch.bool, device=positions.device)
    if fields["causal"] == "1":
        seen &= j <= p
    if fields["window"] == "1":
        seen &= (p - WINDOW[0] <= j) & (j <= p + WINDOW[1])
    if fields["chunk"] == "1":
        seen &= torch.div(p, CHUNK, rounding_mode="floor") == torch.div(j, CHUNK, rounding_mode="floor")
    return seen


def textbook(q, k, v, seen, distance, numbers, alibi=None, bias=None, sink=None, lowp=None):
    """o [sq, hq, dv] and lse [hq, sq] of one sequence, q [sq, hq, d], k and v [sk, hkv, ...]; `seen` and `distance` are
    [sq, sk] or with heads before. float64, or float32 with the weights rounded to `lowp`."""
    import torch

    compute = torch.float64 if lowp is None else torch.float32
    q, k, v = (x.to(compute) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    s = torch.einsum("ihd,jhd->hij", q, k) * numbers["scale"]
    if "softcap" in numbers:
        s = numbers["softcap"] * torch.tanh(s / numbers["softcap"])
    if alibi is not None:
        s = s - alibi.to(compute)[:, None, None] * distance.abs().to(compute)
    if bias is not None:
        s = s + bias.to(compute)
    s = s.masked_fill(~seen, -math.inf)
    lse = torch.logsumexp(s, -1) if s.shape[-1] else torch.full(s.shape[:-1], -math.inf, dtype=compute, device=s.device)
    top = s.amax(-1) if s.shape[-1] else lse
    if sink is not None:
        top = torch.maximum(top, sink.to(compute)[:, None])
    top = torch.where(top == -math.inf, torch.zeros_like(top), top)
    weights = torch.exp(s - top[..., None])
    total = weights.sum(-1)
    if sink is not None:
        total = total + torch.exp(sink.to(compute)[:, None] - top)
    if lowp is not None:
        weights = weights.to(lowp).to(compute)
    o = torch.einsum("hij,jhd->ihd", weights, v)
    total = torch.where(total == 0, torch.ones_like(total), total)
    return o / total.T[..., None], lse


def judge(found, wants, slack):
    """Compares `found` with (reference, lowp) of each output; gives the result of a case."""
    result = {"status": "ok"}
    for key, (exact, low) in wants.items():
        out, exact, low = found[key].double(), exact.double(), low.double()
        infinite = exact == -math.inf
        if bool((out[infinite] != -math.inf).any()):
            result.update(status="failed", why=f"{key} is not -inf where nothing is visible")
            continue
        gaps = [(x[~infinite] - exact[~infinite]).abs() for x in (out, low)]
        error, lowp = (gap.max().item() if gap.numel() else 0.0 for gap in gaps)
        allowed = 2 * lowp + slack[key]
        result.update({f"{key}_error": error, f"{key}_lowp_error": lowp, f"{key}_slack": slack[key]})
        if not error <= allowed:
            wrong = ~(gaps[0] <= allowed)
            result.update(
                status="failed",
                why=f"{key}: error {error:.3g} above 2 * {lowp:.3g} + {slack[key]:.3g}: {int(wrong.sum())} of {out.numel()} "
                f"elements, {int(out.isnan().sum())} NaN",
            )
    return run.json_safe(result)


def slacks(v, cubic, lse_size=1.0):
    """What the exponential's approximation and sums in f32 may add: 2^-16 of the values, 2^-12 where part of the exponentials
    is a cubic's."""
    part = 2.0 ** (-12 if cubic else -16)
    finite = v.double().nan_to_num(0.0)
    return {"o": part * max(finite.abs().max().item() if v.numel() else 0.0, 1e-3), "lse": part * (1 + lse_size)}


# ---------------------------------------------------------------------------------------------------------- checks


def dice(sizes):
    import torch

    return torch.Generator(device="cuda").manual_seed(sum((at + 1) * 7919 * value for at, value in enumerate(sizes.values())) % 2**31)


def drawn(op, sizes, special):
    """Inputs of a plan: what `special` gives by name, normal numbers else."""
    import torch

    generator, given = dice(sizes), {}
    for key, dtype, is_output, shape, _ in op.tensors:
        if is_output:
            continue
        if key in special:
            given[key] = special[key].to("cuda").view(shape)
        elif run.torch_dtype(dtype).is_floating_point:
            given[key] = torch.randn(shape, generator=generator, device="cuda").to(run.torch_dtype(dtype))
        else:
            raise run.Failed(f"tensor `{key}` of {dtype} has no meaning here")
    if "alibi" in given:
        given["alibi"] = given["alibi"].abs() / 8
    return given


def launched(op, given):
    """Outputs of a run; raises Failed where runs differ or touch what is not theirs."""
    import torch

    first, *others = run.guarded_runs(op, given)
    for other in others:
        for key, out in first.items():
            if not torch.equal(out.view(torch.uint8), other[key].view(torch.uint8)):
                raise run.Failed(f"runs on equal data differ in bits of `{key}`")
    return first


def check_forward(op, fields, shape, sizes, numbers, cubic):
    import torch

    batch, sq, sk, hq, hkv = shape
    special = {}
    lengths = [[sq] * batch, [sk] * batch]
    if fields["varlen"] == "1":
        lengths = [varlen(batch, sq), varlen(batch, sk)]
        for key, list_ in zip(("cu_q", "cu_k"), lengths):
            special[key] = torch.tensor([sum(list_[:b]) for b in range(batch + 1)], dtype=torch.int32)
    if "mask" in fields["sparse"]:
        generator = torch.Generator().manual_seed(sq + sk)
        extents = [sizes[f"mask_{axis}"] for axis in "bhqk"]
        special["block_mask"] = (torch.rand(extents, generator=generator) < 0.5).to(torch.uint8)
    if "heads" in fields["sparse"]:
        # Dense, streaming, and where there is a mask a row of it, in turn.
        kinds = [0, -1] + ([1] if "mask" in fields["sparse"] else [])
        special["head_type"] = torch.tensor([kinds[h % len(kinds)] for h in range(hq)], dtype=torch.int32)
    given = drawn(op, sizes, special)
    found = launched(op, given)
    return judge(found, forward_reference(fields, sizes, numbers, given, lengths, hq, run.torch_dtype(fields["out"])), slacks(given["v"], cubic))


def forward_reference(fields, sizes, numbers, given, lengths, hq, out_dtype):
    """(reference, lowp) of o and lse in the layout of the plan's outputs."""
    import torch

    q, k, v = given["q"], given["k"], given["v"]
    flat = lambda x: x.reshape(-1, *x.shape[-2:])
    q, k, v, parts = flat(q), flat(k), flat(v), []
    for b, (sq, sk) in enumerate(zip(*lengths)):
        rows, keys = (slice(sum(list_[:b]), sum(list_[: b + 1])) for list_ in lengths)
        positions = torch.arange(sq, device=q.device) + sk - sq
        seen = visible(fields, positions, sk).expand(hq, sq, sk)
        seen = seen & blocks_seen(fields, sizes, given, positions, sq, sk, hq)
        kb, vb = k[keys], v[keys]
        distance = positions[:, None] - torch.arange(sk, device=q.device)[None]
        if "k_prefix" in given:
            kb, vb = torch.cat([given["k_prefix"], kb]), torch.cat([given["v_prefix"], vb])
            seen = torch.cat([torch.ones(hq, sq, sizes["prefix"], dtype=torch.bool, device=q.device), seen], -1)
        bias = given["bias"][0, :, :sq, :sk] if "bias" in given else None
        both = []
        for lowp in (None, q.dtype):
            o, lse = textbook(q[rows], kb, vb, seen, distance, numbers, given.get("alibi"), bias, given.get("sink"), lowp)
            both.append((o if lowp is None else o.to(out_dtype), lse))
        parts.append(both)
    pairs = {}
    dense = fields["varlen"] != "1"
    for key, at in (("o", 0), ("lse", 1)):
        join = (lambda xs: torch.stack(xs)) if dense else (lambda xs, at=at: torch.cat(xs, at))
        pairs[key] = tuple(join([part[which][at] for part in parts]) for which in (0, 1))
    return pairs


def blocks_seen(fields, sizes, given, positions, sq, sk, hq):
    """What block masks and head types leave: [hq, sq, sk]."""
    import torch

    every = torch.ones(sq, sk, dtype=torch.bool, device=positions.device)
    if fields["sparse"] == "none":
        return every
    i, j = torch.arange(sq, device=positions.device), torch.arange(sk, device=positions.device)
    types = given["head_type"].tolist() if "head_type" in given else [None] * hq
    heads = []
    for h, kind in enumerate(types):
        if kind == 0:
            heads.append(every)
        elif kind == -1:
            heads.append((j < STREAM[0])[None] | (positions[:, None] - j[None] < STREAM[1]))
        else:
            mask = given["block_mask"][0]
            row = mask[kind - 1 if kind else h if len(mask) > 1 else 0].bool()
            heads.append(row[i // sizes["block_m"]][:, j // sizes["block_n"]])
    return torch.stack(heads)


def paged(shape, pages, max_pages):
    """page_table and kv_len: pages in random order, wild ids where no token is; and how many slots of a page are filled."""
    import torch

    page, lengths = shape
    order = torch.randperm(pages, generator=torch.Generator().manual_seed(pages)).tolist()
    table, filled = torch.full((len(lengths), max_pages), 2**31 - 1, dtype=torch.int32), [0] * pages
    table[:, 1::2] = -9
    for b, length in enumerate(lengths):
        for at in range(-(-length // page)):
            table[b, at] = order.pop()
            filled[table[b, at]] = min(page, length - at * page)
    return {"page_table": table, "kv_len": torch.tensor(lengths, dtype=torch.int32)}, filled


def check_decode(op, fields, shape, sizes, numbers, cubic):
    import torch

    sq, hq, hkv, page, lengths, _, _ = shape
    special, filled = paged((page, lengths), sizes["pages"], sizes["max_pages"])
    if fields["select"] != "none":
        heads = hq if fields["select"] == "heads" else hkv
        generator = torch.Generator().manual_seed(sum(lengths))
        special["select"] = torch.full((len(lengths), heads, sizes["n_select"]), -1, dtype=torch.int32)
        for b, length in enumerate(lengths):
            for h in range(heads):
                picked = torch.randperm(-(-length // page), generator=generator)[: sizes["n_select"]]
                special["select"][b, h, : len(picked)] = picked.int()
    given = drawn(op, sizes, special)
    # Slots that no token has must not matter.
    slots = torch.arange(page)[None] >= torch.tensor(filled)[:, None]
    for key in ("k_pages", "v_pages"):
        given[key][slots.to("cuda")] = math.nan
    found = launched(op, given)
    wants = decode_reference(fields, shape, numbers, given, run.torch_dtype(fields["out"]))
    return judge(found, wants, slacks(given["v_pages"], cubic))


def decode_reference(fields, shape, numbers, given, out_dtype):
    import torch

    sq, hq, hkv, page, lengths, _, _ = shape
    parts = []
    for b, length in enumerate(lengths):
        ids = given["page_table"][b, : -(-length // page)].long()
        k, v = (given[key][ids].reshape(-1, hkv, given[key].shape[-1])[:length] for key in ("k_pages", "v_pages"))
        positions = torch.arange(sq, device=k.device) + length - sq
        seen = visible(fields, positions, length).expand(hq, sq, length)
        if "select" in given:
            chosen = given["select"][b].long()
            pages = torch.zeros(len(chosen), len(ids) + 1, dtype=torch.bool, device=k.device)
            pages.scatter_(1, torch.where(chosen < 0, len(ids), chosen), True)
            tokens = pages[:, :-1].repeat_interleave(page, 1)[:, :length].repeat_interleave(hq // len(chosen), 0)
            seen = seen & tokens[:, None]
        distance = positions[:, None] - torch.arange(length, device=k.device)[None]
        both = []
        for lowp in (None, k.dtype):
            o, lse = textbook(given["q"][b], k, v, seen, distance, numbers, given.get("alibi"), None, given.get("sink"), lowp)
            both.append((o if lowp is None else o.to(out_dtype), lse))
        parts.append(both)
    return {key: tuple(torch.stack([part[which][at] for part in parts]) for which in (0, 1)) for key, at in (("o", 0), ("lse", 1))}


def check_merge(op, fields, shape, sizes, numbers, cubic):
    import torch

    given = drawn(op, sizes, {})
    if fields["token_major"] == "0":
        given["partial_lse"][:, 0, 0] = -math.inf  # a row where nothing is visible in any part
    found = launched(op, given)
    slack = slacks(given["partial_o"], False)
    # A weight is off by roundings of its exponent and by the exponential's.
    return judge(found, merge_reference(fields, shape, given), {key: 4 * value for key, value in slack.items()})


def merge_reference(fields, shape, given):
    import torch

    parts, batch, sq, hq, dv = shape
    pairs = {"o": [], "lse": []}
    for compute in (torch.float64, torch.float32):
        o = given["partial_o"].to(compute).view(parts, batch, sq, hq, dv)
        lse = given["partial_lse"].to(compute)
        lse = lse.view(parts, batch, sq, hq) if fields["token_major"] == "1" else lse.view(parts, batch, hq, sq).transpose(2, 3)
        whole = torch.logsumexp(lse, 0)
        total = torch.logaddexp(whole, given["sink"].to(compute)) if "sink" in given else whole
        weights = torch.exp(lse - torch.where(total == -math.inf, torch.zeros_like(total), total))
        merged = (weights[..., None] * o).sum(0)
        pairs["o"].append(merged if compute == torch.float64 else merged.to(run.torch_dtype(fields["out"])))
        pairs["lse"].append(whole.transpose(1, 2))
    return {key: tuple(both) for key, both in pairs.items()}


def check_stats(op, fields, shape, sizes, numbers, cubic):
    given = drawn(op, sizes, {})
    found = launched(op, given)
    pages, page, hkv, _ = shape
    keys = given["k_pages"].double().view(pages, sizes["sub"], page // sizes["sub"], hkv, -1)
    wants = {"page_min": keys.amin(2), "page_max": keys.amax(2)}
    for key, want in wants.items():
        if not bool((found[key].double().view(want.shape) == want).all()):
            return {"status": "failed", "why": f"{key} is not one of the keys' bounds"}
    return {"status": "ok"}


def check_select(op, fields, shape, sizes, numbers, cubic):
    hq, hkv, page, top, lengths = shape
    special, _ = paged((page, lengths), sizes["pages"], sizes["max_pages"])
    given = drawn(op, sizes, special)
    found = launched(op, given)["select"]
    why = wrong_selection(shape, sizes, given, found)
    return {"status": "failed", "why": why} if why else {"status": "ok"}


def wrong_selection(shape, sizes, given, select):
    """Why a selection is not of the best pages with the last among them, or None."""
    import torch

    hq, hkv, page, top, lengths = shape
    for b, length in enumerate(lengths):
        count = -(-length // page)
        ids = given["page_table"][b, :count].long()
        low, high = (
            given[key][ids].double().view(count, sizes["sub"], hkv, given[key].shape[-1]).repeat_interleave(hq // hkv, 2) for key in ("page_min", "page_max")
        )
        q = given["q"][b, 0].double()
        products = torch.maximum(q * low, q * high)
        scores = products.sum(-1).amax(1)  # [pages, hq]
        loose = 2.0**-16 * products.abs().sum(-1).amax(1)
        for h in range(hq):
            taken = [page_ for page_ in select[b, h].tolist() if page_ != -1]
            where = f"sequence {b} head {h}"
            if len(set(taken)) != len(taken) or any(not 0 <= page_ < count for page_ in taken):
                return f"{where}: {taken} are not different pages of {count}"
            if len(taken) != min(count, top):
                return f"{where}: {len(taken)} pages instead of {min(count, top)}"
            if count and count - 1 not in taken:
                return f"{where}: the last page is not among {taken}"
            inside = [page_ for page_ in taken if page_ != count - 1]
            left = [page_ for page_ in range(count - 1) if page_ not in set(taken)]
            if inside and left:
                worst = (scores[inside, h] + loose[inside, h]).min().item()
                best = (scores[left, h] - loose[left, h]).max().item()
                if best > worst:
                    return f"{where}: a page left out scores {best:.6g}, one taken {worst:.6g}"
    return None
