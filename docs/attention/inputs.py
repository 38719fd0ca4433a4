"""Inputs for the commands of attention.md. Needs nothing but Python.

    python3 inputs.py                                  writes one file for each op into this folder's place of work
    python3 inputs.py join OUT A:x,y B:z ...           OUT = tensors x, y of file A and z of file B
"""
import json
import random
import struct
import sys


def write(path, tensors):
    """tensors: name -> (dtype, shape, bytes)."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def read(path):
    with open(path, "rb") as file:
        whole = file.read()
    (n,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + n]), whole[8 + n :]
    header.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items()}


def numbers(*shape, seed=random.Random(1)):
    """BF16 in -1..1: the upper half of an f32."""
    count = 1
    for n in shape:
        count *= n
    return "BF16", list(shape), b"".join(struct.pack("<f", seed.uniform(-1, 1))[2:] for _ in range(count))


def ints(shape, values):
    return "I32", shape, struct.pack(f"<{len(values)}i", *values)


def floats(shape, values):
    return "F32", shape, struct.pack(f"<{len(values)}f", *values)


def examples():
    q, k, v = numbers(2, 100, 4, 64), numbers(2, 150, 2, 64), numbers(2, 150, 2, 64)
    write("dense.safetensors", {"q": q, "k": k, "v": v})
    write("features.safetensors", {
        "q": q, "k": k, "v": v, "alibi": floats([4], [0.5, 0.25, 0.125, 0.0625]), "sink": floats([4], [0, 1, 2, 3]),
        "bias": floats([1, 4, 1, 150], [0.01 * i for i in range(600)]),
    })
    write("varlen.safetensors", {
        "q": numbers(90, 4, 64), "k": numbers(130, 2, 64), "v": numbers(130, 2, 64),
        "cu_q": ints([4], [0, 40, 41, 90]), "cu_k": ints([4], [0, 70, 75, 130]),
    })
    # Blocks of 50 queries and 30 keys; heads 0 and 3 take rows 0 and 1 of the mask, head 1 streams, head 2 sees all.
    write("sparse.safetensors", {
        "q": q, "k": k, "v": v, "block_mask": ("U8", [1, 2, 2, 5], bytes([1, 0, 1, 0, 1, 1, 1, 0, 0, 1] * 2)),
        "head_type": ints([4], [1, -1, 0, 2]),
    })
    write("prefix.safetensors", {
        "q": q, "k": k, "v": v, "k_prefix": numbers(80, 2, 64), "v_prefix": numbers(80, 2, 64),
    })
    # 3 sequences of 100, 0 and 61 tokens in pages of 16; entries behind a length are never looked at.
    table = [[3, 0, 11, 7, 1, 9, 4, -1], [-1] * 8, [8, 2, 10, 5, -1, -1, -1, -1]]
    write("paged.safetensors", {
        "q": numbers(3, 1, 8, 64), "k_pages": numbers(12, 16, 2, 64), "v_pages": numbers(12, 16, 2, 64),
        "page_table": ints([3, 8], sum(table, [])), "kv_len": ints([3], [100, 0, 61]),
    })
    lse = [0.1 * i for i in range(3 * 2 * 4 * 5)]
    write("parts.safetensors", {"o": numbers(3, 2, 5, 4, 64), "lse": floats([3, 2, 4, 5], lse)})


if sys.argv[1:2] == ["join"]:
    out = {}
    for part in sys.argv[3:]:
        path, names = part.split(":")
        tensors = read(path)
        out.update({name: tensors[name] for name in names.split(",")})
    write(sys.argv[2], out)
else:
    examples()
