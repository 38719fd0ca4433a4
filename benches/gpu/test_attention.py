"""What of the attention kit can be tested without a GPU; `python3 -m unittest` in this folder, and the runtime's tests do it.

The reference is checked where torch is installed, on the CPU."""

import glob
import importlib.util
import json
import math
import os
import random
import unittest

import attention
import attention_check
import run

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
HAS_TORCH = importlib.util.find_spec("torch") is not None


def library():
    """(op, class) of library.toml's entries for sm90."""
    entries, op = [], None
    with open(os.path.join(ROOT, "library.toml")) as file:
        for line in file:
            if line.startswith("[["):
                op = line.strip().strip("[]")
            elif line.startswith("targets"):
                target = line
            elif line.startswith("class") and "sm90" in target:
                entries.append((op, line.split("=", 1)[1].strip().strip('"')))
    return entries


class Classes(unittest.TestCase):
    def test_texts_are_those_of_the_library(self):
        seen = 0
        for op, text in library():
            fields = run.parse_class(text)
            if op not in ("attention", "attention_decode"):
                continue
            flags = {name: fields.pop(name) == "1" for name in (*attention_check.FLAGS, "varlen") if name in fields}
            prefix = {"prefix": fields.pop("prefix") == "1"} if "prefix" in fields else {}
            d, dv = int(fields.pop("d")), int(fields.pop("dv"))
            make = attention.forward_class if op == "attention" else attention.decode_class
            self.assertEqual(make(d, dv, **fields, **flags, **prefix), text)
            seen += 1
        self.assertGreater(seen, 10)

    def test_the_library_has_what_the_sweep_times(self):
        tables = [{"op": op, "class": text} for op, text in library()]
        cases, missing = attention.sweep_cases({"dispatch": tables})
        self.assertEqual(missing, {})
        keys = [key for key, _ in cases]
        self.assertEqual(len(set(keys)), len(keys))
        self.assertEqual([key.split()[0] for key in keys[:4]], ["prefill", "decode", "sparse", "select"])

    def test_what_a_pack_lacks_is_named(self):
        tables = [{"op": "attention", "class": attention.forward_class(64)}]
        cases, missing = attention.sweep_cases({"dispatch": tables})
        self.assertEqual({key.split()[0] for key, _ in cases}, {"prefill"})
        self.assertEqual(len(cases), len(attention.SEQUENCES))
        decode = missing["attention_decode " + attention.decode_class(128, causal=True)]
        self.assertEqual(len(decode), len(attention.decode_shapes()))
        with self.assertRaises(AssertionError):
            attention.forward_class(64, casual=True)


class Formulas(unittest.TestCase):
    def test_flops_and_bytes(self):
        self.assertEqual(attention.forward_flops(1, 16384, 16, 128, False), 4 * 16384**2 * 2048)
        self.assertEqual(attention.forward_flops(1, 16384, 16, 128, True), 2 * 16384**2 * 2048)
        self.assertEqual(attention.decode_bytes(32, 4096, 8, 128), 2 * 32 * 4096 * 8 * 128 * 2)
        self.assertEqual(attention.bounds_bytes(2, 10, 8, 128), 2 * 2 * 10 * 8 * 128 * 2)

    def test_shapes_are_those_of_the_sweep(self):
        for batch, seq, heads, d, _ in attention.prefill_shapes():
            self.assertEqual((batch * seq, heads * d), (16384, 2048))
        self.assertEqual(len(set(attention.prefill_shapes())), 30)
        self.assertEqual(attention.decode_shapes()[0][:2], (32, 4096))
        self.assertEqual(len(set(attention.decode_shapes())), 64)

    def test_shares_of_the_dense_work(self):
        every = attention.block_keep(8, 1.0, True, random.Random(1))
        self.assertEqual(every, [list(range(i + 1)) for i in range(8)])
        self.assertEqual(attention.kept_share(every, True), 1.0)
        self.assertEqual(attention.kept_share([[0], [1]], True, 2), 6 / 10)
        self.assertEqual(attention.kept_share([[0], [1]], False), 0.5)
        for causal in (False, True):
            rows = attention.block_keep(64, 0.25, causal, random.Random(2))
            self.assertTrue(all(i in row and len(set(row)) == len(row) for i, row in enumerate(rows)))
            self.assertTrue(all(max(row) <= (i if causal else 63) for i, row in enumerate(rows)))
            self.assertAlmostEqual(attention.kept_share(rows, causal), 0.25, delta=0.02)
        by_hand = sum(1 for p in range(9) for j in range(p + 1) if j < 2 or p - j < 3) / 45
        self.assertEqual(attention.streaming_share(9, 2, 3), by_hand)

    def test_headlines_take_what_was_measured(self):
        cases = {
            "prefill a": {"status": "ok", "tflops": 500.0, "of_best_peer": 2.0}, "prefill b": {"status": "failed", "tflops": 900.0},
            "decode a": {"status": "ok", "tb_s": 3.4}, "sparse causal 0.5": {"status": "ok", "of_ideal": 0.9},
        }
        found = attention.headline(cases)
        self.assertEqual(found["prefill_tflops"], {"prefill a": 500.0})
        self.assertEqual(found["prefill_of_best_peer"], 2.0)
        self.assertIsNone(found["decode_of_best_peer"])
        self.assertEqual(found["sparse_of_ideal"], {"sparse causal 0.5": 0.9})
        json.dumps(attention.headline({}))


class Problems(unittest.TestCase):
    def test_a_problem_keeps_its_names(self):
        problem = run.Problem({"batch": 3, "sq": 1 << 40}, {"scale": 0.5})
        found = {problem.sizes[i].name.decode(): problem.sizes[i].value for i in range(problem.n_sizes)}
        self.assertEqual(found, {"batch": 3, "sq": 1 << 40})
        self.assertEqual((problem.numbers[0].name, problem.numbers[0].value, problem.n_numbers), (b"scale", 0.5, 1))

    def test_every_class_of_the_library_has_cases(self):
        plans = [{"op": op, "class": text, "id": f"{op}{at}"} for at, (op, text) in enumerate(library()) if op in attention_check.OPS]
        cases = list(attention_check.plan_cases({"plans": plans}))
        self.assertEqual(len({key for key, *_ in cases}), len(cases))
        for _, plan, fields, shape, sizes, numbers in cases:
            self.assertTrue(all(isinstance(size, int) and size >= 0 for size in sizes.values()), (plan, sizes))
            self.assertLessEqual({"m", "n", "k"}, set(sizes))
            self.assertEqual("scale" in numbers, plan["op"] in ("attention", "attention_decode"))
        self.assertEqual(attention_check.varlen(3, 100), [100, 0, 34])

    def test_peers_that_are_missing_are_named(self):
        function, why = attention.fa3()
        if function is None:
            self.assertIn("fa3_fwd_interface", why)
            self.assertIn("flash_attn_interface", why)


@unittest.skipUnless(os.environ.get("TILEWRIGHT_LIB"), "TILEWRIGHT_LIB names no runtime")
class Packs(unittest.TestCase):
    """With a runtime and a driver, which may be a stand-in: plans are chosen and prepared, nothing is launched."""

    def test_plans_take_the_problems(self):
        folder = os.environ["TILEWRIGHT_PACK"]
        runtime = run.Runtime(os.environ["TILEWRIGHT_LIB"])
        runtime.open(folder, 0)
        with open(os.path.join(folder, "manifest.json")) as file:
            manifest = json.load(file)
        for plan in manifest["plans"]:
            if plan["op"] == "gemm":
                sizes = {"m": 64, "n": 60, "k": 64, "batch": 1, "split_k": 0}
                by_name, by_struct = run.Problem(sizes), run.Gemm(*sizes.values(), 1.0)
                self.assertEqual(runtime.admits(plan["id"], by_name), runtime.admits(plan["id"], by_struct))
        admitted, prepared = {}, 0
        for _, plan, _, _, sizes, numbers in attention_check.plan_cases(manifest):
            problem = run.Problem(sizes, numbers)
            fits = runtime.admits(plan["id"], problem) is None
            admitted[plan["id"]] = admitted.get(plan["id"], 0) + fits
            if fits:
                op = run.Op(runtime, plan["id"], problem)
                self.assertEqual({t[0] for t in op.tensors}, {t["name"] for t in plan["tensors"] if t["role"] != "workspace"})
                op.close()
                prepared += 1
        self.assertEqual([plan for plan, count in admitted.items() if count == 0], [])
        print(f"{len(admitted)} attention plans, {prepared} preparations")

    def test_the_sweep_finds_its_plans(self):
        folder = os.environ["TILEWRIGHT_PACK"]
        runtime = run.Runtime(os.environ["TILEWRIGHT_LIB"])
        runtime.open(folder, 0)
        with open(os.path.join(folder, "manifest.json")) as file:
            manifest = json.load(file)
        has = lambda op, text: attention.dispatched(manifest, op, text)
        for batch, seq, heads, d, causal in attention.prefill_shapes():
            text = attention.forward_class(d, causal=causal)
            if has("attention", text):
                runtime.select_of("attention", text, run.Problem(attention.forward_sizes(batch, seq, seq, heads, heads)))
        text = attention.decode_class(128, causal=True)
        for batch, tokens, hq, hkv, page in attention.decode_shapes():
            if has("attention_decode", text):
                sizes = attention.decode_sizes(batch, 1, hq, hkv, batch * tokens // page, page, tokens // page)
                runtime.select_of("attention_decode", text, run.Problem(sizes))
        with self.assertRaises(run.Failed) as refused:
            runtime.select_of("attention", "d=1", run.Problem({"m": 1, "n": 1, "k": 1}))
        self.assertIn("no attention for class `d=1`", str(refused.exception))


@unittest.skipUnless(HAS_TORCH, "torch is not installed")
class Reference(unittest.TestCase):
    def setUp(self):
        import torch

        torch.manual_seed(5)
        self.torch = torch

    def fields(self, **on):
        return run.parse_class(attention.forward_class(64, **on))

    def test_the_textbook_is_torchs(self):
        torch = self.torch
        q, k, v = torch.randn(9, 4, 64), torch.randn(33, 2, 64), torch.randn(33, 2, 64)
        positions = torch.arange(9) + 24
        seen = attention_check.visible(self.fields(causal=True), positions, 33)
        o, lse = attention_check.textbook(q, k, v, seen, positions[:, None] - torch.arange(33), {"scale": 0.125})
        heads = lambda x: x.double().transpose(0, 1)[None]
        want = torch.nn.functional.scaled_dot_product_attention(heads(q), heads(k), heads(v), attn_mask=seen, enable_gqa=True)
        self.assertLess((o.transpose(0, 1) - want[0]).abs().max().item(), 1e-12)
        one = torch.logsumexp(0.125 * (q[3, 1].double() @ k[:28, 0].double().T), 0)
        self.assertAlmostEqual(lse[1, 3].item(), one.item(), places=12)

    def test_terms_by_hand(self):
        torch = self.torch
        q, k, v = torch.ones(1, 1, 64), torch.ones(2, 1, 64), torch.tensor([1.0, 3.0])[:, None, None].expand(2, 1, 64)
        seen, far = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[1, 0]])
        call = lambda **more: attention_check.textbook(q, k, v, seen, far, {"scale": 1 / 64, **more.pop("numbers", {})}, **more)
        self.assertAlmostEqual(call()[0][0, 0, 0].item(), 2.0)
        self.assertAlmostEqual(call()[1].item(), 1 + math.log(2))
        sink = call(sink=torch.tensor([1.0]))
        self.assertAlmostEqual(sink[0][0, 0, 0].item(), 4 / 3)
        self.assertAlmostEqual(sink[1].item(), 1 + math.log(2))
        near = call(alibi=torch.tensor([0.5]))[0][0, 0, 0].item()
        self.assertAlmostEqual(near, (math.exp(-0.5) + 3) / (math.exp(-0.5) + 1))
        capped = call(numbers={"softcap": 5.0})[1].item()
        self.assertAlmostEqual(capped, 5 * math.tanh(0.2) + math.log(2))
        nothing = attention_check.textbook(q, k, v, ~seen, far, {"scale": 1.0})
        self.assertEqual((nothing[0].abs().max().item(), nothing[1].item()), (0.0, -math.inf))

    def test_a_paged_cache_reads_as_a_row(self):
        torch = self.torch
        shape = (1, 4, 2, 16, (40, 0), 0, 0)
        sizes, numbers = attention_check.decode_problem(run.parse_class(attention.decode_class(64, causal=True)), shape)
        special, filled = attention_check.paged((16, (40, 0)), sizes["pages"], sizes["max_pages"])
        self.assertEqual(sorted(filled), [0, 0, 8, 16, 16])
        given = {"q": torch.randn(2, 1, 4, 64), **special}
        for key in ("k_pages", "v_pages"):
            given[key] = torch.randn(sizes["pages"], 16, 2, 64)
        fields = run.parse_class(attention.decode_class(64, causal=True))
        o, lse = (pair[0] for pair in attention_check.decode_reference(fields, shape, numbers, given, torch.float32).values())
        row = torch.cat([given["k_pages"][int(page)] for page in given["page_table"][0, :3]])[:40]
        values = torch.cat([given["v_pages"][int(page)] for page in given["page_table"][0, :3]])[:40]
        every = torch.ones(1, 40, dtype=torch.bool)
        want = attention_check.textbook(given["q"][0], row, values, every, torch.zeros(1, 40), numbers)
        self.assertTrue(torch.equal(o[0], want[0]) and torch.equal(lse[0], want[1]))
        self.assertEqual((o[1].abs().max().item(), lse[1].max().item()), (0.0, -math.inf))
        chosen = torch.full((2, 4, 3), -1, dtype=torch.int32)
        chosen[0] = torch.tensor([2, 0, 1])
        same = attention_check.decode_reference(fields, shape, numbers, {**given, "select": chosen}, torch.float32)["o"][0]
        self.assertTrue(torch.equal(same[0], o[0]))
        chosen[0, :, 1:] = -1
        last = attention_check.textbook(given["q"][0], row[32:], values[32:], every[:, 32:], torch.zeros(1, 8), numbers)
        found = attention_check.decode_reference(fields, shape, numbers, {**given, "select": chosen}, torch.float32)["o"][0]
        self.assertLess((found[0] - last[0]).abs().max().item(), 1e-12)

    def test_references_take_every_class_of_the_library(self):
        torch = self.torch
        for op, text in library():
            fields = run.parse_class(text)
            if op != "attention" or int(fields["d"]) > 128:
                continue
            for shape in [(3, 21, 35, 2, 1), (1, 9, 2, 2, 2)]:
                sizes, numbers = attention_check.forward_problem(fields, shape)
                batch, sq, sk, hq, hkv = shape
                varlen, d = fields["varlen"] == "1", int(fields["d"])
                lengths = [attention_check.varlen(batch, n) if varlen else [n] * batch for n in (sq, sk)]
                draw = lambda *s: torch.randn(s).bfloat16()
                rows = [[sum(list_)] if varlen else [batch, list_[0]] for list_ in lengths]
                given = {"q": draw(*rows[0], hq, d), "k": draw(*rows[1], hkv, d), "v": draw(*rows[1], hkv, int(fields["dv"]))}
                if "mask" in fields["sparse"]:
                    given["block_mask"] = torch.ones([sizes[f"mask_{axis}"] for axis in "bhqk"], dtype=torch.uint8)
                if "heads" in fields["sparse"]:
                    given["head_type"] = torch.tensor([0, -1], dtype=torch.int32)
                if fields["sink"] == "1":
                    given["sink"] = torch.randn(hq)
                if "prefix" in sizes:
                    given.update(k_prefix=draw(sizes["prefix"], hkv, d), v_prefix=draw(sizes["prefix"], hkv, d))
                wants = attention_check.forward_reference(fields, sizes, numbers, given, lengths, hq, torch.bfloat16)
                self.assertEqual(wants["o"][0].shape, given["q"].shape[:-1] + (int(fields["dv"]),))
                self.assertEqual(wants["lse"][0].shape, (hq, sum(lengths[0])) if varlen else (batch, hq, sq))
                slack = attention_check.slacks(given["v"], False)
                found = {key: pair[1] for key, pair in wants.items()}
                self.assertEqual(attention_check.judge(found, wants, slack)["status"], "ok", (text, shape))
                wrong = {**found, "o": found["o"] + 0.125}
                self.assertEqual(attention_check.judge(wrong, wants, slack)["status"], "failed")
                unwritten = {**found, "lse": torch.full_like(found["lse"], math.nan)}
                self.assertEqual(attention_check.judge(unwritten, wants, slack)["status"], "failed")

    def test_merging_parts_gives_the_whole(self):
        torch = self.torch
        parts, batch, sq, hq, dv = shape = (2, 1, 3, 2, 64)
        q, k, v = torch.randn(sq, hq, 64), torch.randn(20, hq, 64), torch.randn(20, hq, dv)
        call = lambda keys: attention_check.textbook(q, k[keys], v[keys], torch.ones(sq, len(k[keys]), dtype=torch.bool), torch.zeros(1), {"scale": 0.1})
        halves, whole = [call(slice(0, 13)), call(slice(13, 20))], call(slice(0, 20))
        given = {"partial_o": torch.stack([x[0] for x in halves])[:, None], "partial_lse": torch.stack([x[1] for x in halves])[:, None]}
        fields = run.parse_class("in=f32,out=f32,token_major=0,sink=0,align=4")
        merged = attention_check.merge_reference(fields, shape, given)
        self.assertLess((merged["o"][0][0] - whole[0]).abs().max().item(), 1e-12)
        self.assertLess((merged["lse"][0][0] - whole[1]).abs().max().item(), 1e-12)

    def test_selections_are_judged(self):
        torch = self.torch
        shape = (2, 1, 16, 3, (100, 20, 0))
        sizes, _ = attention_check.select_problem(run.parse_class("dtype=bf16,bounds=bf16,d=8,logical=0"), shape)
        special, _ = attention_check.paged((16, (100, 20, 0)), sizes["pages"], sizes["max_pages"])
        given = {"q": torch.randn(3, 1, 2, 8), "page_min": -torch.rand(sizes["pages"], 1, 8), "page_max": torch.rand(sizes["pages"], 1, 8), **special}
        select = torch.full((3, 2, 3), -1)
        for b, count in ((0, 7), (1, 2)):
            ids = special["page_table"][b, :count].long()
            bound = torch.maximum(given["q"][b, 0] * given["page_min"][ids], given["q"][b, 0] * given["page_max"][ids]).sum(-1)
            for h in range(2):
                best = bound[: count - 1, h].argsort(descending=True)[:2]
                select[b, h, : len(best) + 1] = torch.cat([best, torch.tensor([count - 1])])
        wrong = lambda: attention_check.wrong_selection(shape, sizes, given, select)
        self.assertIsNone(wrong())
        kept = select[0, 1].clone()
        left = next(page for page in range(6) if page not in kept.tolist())
        select[0, 1, 0] = left
        self.assertIn("a page left out scores", wrong())
        select[0, 1] = torch.tensor([kept[0], kept[1], -1])
        self.assertIn("2 pages instead of 3", wrong())
        select[0, 1] = torch.tensor([kept[0], kept[1], left])
        self.assertIn("the last page is not among", wrong())


class Kit(unittest.TestCase):
    def test_the_pack_carries_every_script(self):
        with open(os.path.join(ROOT, "xtask", "src", "gpu_pack.rs")) as file:
            source = file.read()
        for path in glob.glob(os.path.join(HERE, "*.py")):
            name = os.path.basename(path)
            self.assertEqual(f'"{name}"' in source, not name.startswith("test_"), name)


if __name__ == "__main__":
    unittest.main()
