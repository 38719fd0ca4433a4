"""Voxels, kernel maps and layer graphs of the sparse kit, in numpy: what sparse.py gives to plans and holds them to.

Maps follow from the relation `f = stride*q - padding + dilation*o` alone, by sorted keys, in another way than the kernels make them.
"""

import json
import os
import sys

try:
    import numpy as np
except ImportError:  # the phases say so; the rest of the kit does not need it
    np = None

HERE = os.path.dirname(os.path.abspath(__file__))
UP = ("transposed", "generative", "inverse")


class Geometry:
    """A kernel and how it moves, each along x, y, z."""

    def __init__(self, kernel, stride=1, dilation=1, padding=0):
        three = lambda value: tuple(value) if isinstance(value, (list, tuple)) else (value,) * 3
        self.kernel, self.stride, self.dilation, self.padding = map(three, (kernel, stride, dilation, padding))
        self.taps = self.kernel[0] * self.kernel[1] * self.kernel[2]

    @staticmethod
    def submanifold(kernel, dilation=1):
        g = Geometry(kernel, 1, dilation)
        g.padding = tuple(d * (k - 1) // 2 for d, k in zip(g.dilation, g.kernel))
        return g

    def key(self):
        return self.kernel, self.stride, self.dilation, self.padding

    def sizes(self):
        """Variables of a plan."""
        axes = (("k", self.kernel), ("s", self.stride), ("d", self.dilation), ("p", self.padding))
        named = {name + axis: value for name, values in axes for axis, value in zip("xyz", values)}
        return {**named, "taps": self.taps}

    def offsets(self):
        kx, ky, kz = self.kernel
        return np.array([(x, y, z) for x in range(kx) for y in range(ky) for z in range(kz)], np.int64)

    def fine(self, q, o):
        return q * np.array(self.stride) - np.array(self.padding) + np.array(self.dilation) * o

    def coarse(self, f, o):
        """Coarse voxels, and where there are any."""
        scaled = f + np.array(self.padding) - np.array(self.dilation) * o
        whole = (scaled % np.array(self.stride) == 0).all(-1)
        return scaled // np.array(self.stride), whole


class Keys:
    """Rows of coordinates by key."""

    def __init__(self, coords):
        self.low = coords.min(0) - 8 if len(coords) else np.zeros(4, np.int64)
        self.span = (coords.max(0) if len(coords) else np.zeros(4, np.int64)) + 9 - self.low
        assert float(np.prod(self.span.astype(float))) < 2**62, "coordinates too far apart for one key"
        self.sorted, self.order = None, None
        keys, _ = self.of(coords)
        self.order = np.argsort(keys, kind="stable")
        self.sorted = keys[self.order]

    def of(self, coords):
        """Keys, and which coordinates have one."""
        at = coords - self.low
        inside = ((at >= 0) & (at < self.span)).all(-1)
        at = np.where(inside[..., None], at, 0)
        key = at[..., 0]
        for axis in (1, 2, 3):
            key = key * self.span[axis] + at[..., axis]
        return key, inside

    def find(self, coords):
        """The row of each, or -1."""
        if not len(self.sorted):
            return np.full(coords.shape[:-1], -1, np.int64)
        key, inside = self.of(coords)
        at = np.minimum(np.searchsorted(self.sorted, key), len(self.sorted) - 1)
        return np.where(inside & (self.sorted[at] == key), self.order[at], -1)


def outputs(mode, g, coords):
    """Voxels that strided or generative layers make: by candidate `row * taps + tap`, first come first."""
    batch, xyz, taps = coords[:, :1], coords[:, 1:], g.offsets()
    found = []
    for at, o in enumerate(taps):
        to, there = (g.fine(xyz, o), np.ones(len(xyz), bool)) if mode in UP else g.coarse(xyz, o)
        rows = np.nonzero(there)[0]
        found.append((rows * len(taps) + at, np.concatenate([batch[rows], to[rows]], 1)))
    order = np.concatenate([rank for rank, _ in found])
    voxels = np.concatenate([to for _, to in found])[np.argsort(order, kind="stable")]
    _, first = np.unique(voxels, axis=0, return_index=True)
    return voxels[np.sort(first)]


def kernel_map(mode, g, coords, target=None):
    """(outputs [m, 4], map [m, taps]) of a layer."""
    out = target if target is not None else coords if mode == "submanifold" else outputs(mode, g, coords)
    keys, columns = Keys(coords), []
    for o in g.offsets():
        xyz, there = g.coarse(out[:, 1:], o) if mode in UP else (g.fine(out[:, 1:], o), True)
        rows = keys.find(np.concatenate([out[:, :1], xyz], 1))
        columns.append(np.where(there, rows, -1))
    return out, np.stack(columns, 1).astype(np.int32) if columns else np.zeros((len(out), 0), np.int32)


# ---------------------------------------------------------------------------------------------------------- scenes


def scenes(folder=None):
    """Scenes of the kit: name -> coordinates [n, 4]."""
    folder = folder or os.path.join(HERE, "scenes")
    index = os.path.join(folder, "index.json")
    if not os.path.exists(index):
        return {}
    with open(index) as file:
        entries = json.load(file)
    read = lambda name: np.fromfile(os.path.join(folder, name + ".i32"), "<i4").reshape(-1, 4).astype(np.int64)
    found = {entry["name"]: read(entry["name"]) for entry in entries}
    for entry in entries:
        assert len(found[entry["name"]]) == entry["voxels"], entry
    return found


def crop(coords, n):
    """The n voxels nearest to one at the median distance, in their order."""
    far = (coords[:, 1:] ** 2).sum(1)
    middle = coords[np.argsort(far, kind="stable")[len(coords) // 2], 1:]
    near = np.argsort(((coords[:, 1:] - middle) ** 2).sum(1), kind="stable")[:n]
    return coords[np.sort(near)]


# ---------------------------------------------------------------------------------------------------------- networks


class Layer:
    """A convolution (`geometry`, `up`, `group`, ..) or a concatenation (`second` is not None)."""

    def __init__(self, name, first, level, cin, cout, **more):
        self.name, self.first, self.level, self.cin, self.cout = name, first, level, cin, cout
        self.second, self.group, self.up, self.act, self.bn, self.bias, self.residual = None, None, False, "none", True, False, None
        self.__dict__.update(more)


class Network:
    """A layer graph of networks/*.toml. Feeds are layer numbers, -1 the input."""

    def __init__(self, text):
        import tomllib

        file = tomllib.loads(text)
        self.name, self.channels = file["name"], file["channels"]
        self.layers, self.levels, self.groups, self.names = [], [None], [], {"input": -1}
        for entry in file["layers"]:
            self.read(entry)

    def level_of(self, feed):
        return 0 if feed < 0 else self.layers[feed].level

    def group_of(self, mode, g, fine):
        for at, (other, geometry, level, _) in enumerate(self.groups):
            if (other, geometry.key(), level) == (mode, g.key(), fine):
                return at
        coarse = fine
        if mode != "submanifold":
            coarse = len(self.levels)
            self.levels.append(len(self.groups))
        self.groups.append((mode, g, fine, coarse))
        return len(self.groups) - 1

    def add(self, layer):
        self.layers.append(layer)
        self.names[layer.name] = len(self.layers) - 1
        return len(self.layers) - 1

    def read(self, e):
        first = self.names[e["input"]] if "input" in e else len(self.layers) - 1
        level, name, cin, cout = self.level_of(first), e["name"], e["cin"], e["cout"]
        common = {"act": e.get("act", "relu"), "bn": e.get("bn", True), "bias": e.get("bias", False)}
        if "residual" in e:
            common["residual"] = self.names[e["residual"]]
        if e["op"] == "submanifold":
            group = self.group_of("submanifold", Geometry.submanifold(e.get("kernel", 3), e.get("dilation", 1)), level)
            self.add(Layer(name, first, level, cin, cout, group=group, **common))
        elif e["op"] == "strided":
            g = Geometry(e.get("kernel", 3), e.get("stride", 1), e.get("dilation", 1), e.get("padding", 0))
            group = self.group_of("strided", g, level)
            self.add(Layer(name, first, self.groups[group][3], cin, cout, group=group, **common))
        elif e["op"] == "inverse":
            group = self.layers[self.names[e["of"]]].group
            self.add(Layer(name, first, self.groups[group][2], cin, cout, group=group, up=True, **common))
        elif e["op"] == "concat":
            self.add(Layer(name, first, level, cin, cout, second=self.names[e["with"]]))
        elif e["op"] == "residual":
            group = self.group_of("submanifold", Geometry.submanifold(e.get("kernel", 3), e.get("dilation", 1)), level)
            one = self.add(Layer(name + ".conv1", first, level, cin, cout, group=group, act=common["act"]))
            past = first
            if cin != cout:
                same = self.group_of("submanifold", Geometry.submanifold(1), level)
                past = self.add(Layer(name + ".shortcut", first, level, cin, cout, group=same))
            two = Layer(name + ".conv2", one, level, cout, cout, group=group, act=common["act"], residual=past)
            self.names[name] = self.add(two)
        else:
            raise ValueError(f"layer {name}: op {e['op']}")

    def maps(self, coords):
        """(voxels by level, map by group, map back by group or None)."""
        levels, maps, back = [coords], [], []
        upward = {layer.group for layer in self.layers if layer.up}
        for at, (mode, g, fine, coarse) in enumerate(self.groups):
            out, found = kernel_map(mode, g, levels[fine])
            if coarse != fine:
                levels.append(out)
            maps.append(found)
            back.append(kernel_map("inverse", g, out, levels[fine])[1] if at in upward else None)
        return levels, maps, back

    def sizes(self, levels, maps):
        """Variables of a plan."""
        rows = {f"rows{i}": len(level) for i, level in enumerate(levels)}
        return {**rows, **{f"pairs{i}": int((m >= 0).sum()) for i, m in enumerate(maps)}}


def networks(folder=None):
    """The kit's networks by name, and why there are none."""
    if sys.version_info < (3, 11):
        return {}, "networks are TOML files, which Python reads from 3.11 on"
    folder = folder or next((f for f in (os.path.join(HERE, "networks"), os.path.join(HERE, "../../networks")) if os.path.isdir(f)), None)
    if folder is None:
        return {}, "no folder networks/"
    found = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as file:
            network = Network(file.read())
        found[network.name] = network
    return found, None
