"""MACs of random loops, branches and sequences equal those of the kernels that onnxruntime runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import onnx_ir as ir
import pytest
import sympy
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from modelsurgeon.onnx.info import analyze
from tests import macs, zoo

WIDTH = 4
SIZES = (1, 2, 3, 6)


@dataclass(kw_only=True)
class Program:
    """Lines of ONNX text that compute a float[?, 4] from x, float[N, 4].

    tensors: names of such values that can be used at this place. counts: names of int64 scalars that follow
    from sizes, at least 0. sequences: names of sequences of such values, with at least one element.
    """

    rng: Random
    lines: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=lambda: ["x"])
    counts: list[str] = field(default_factory=lambda: ["n", "two", "three"])
    sequences: list[str] = field(default_factory=list)
    used: int = 0
    depth: int = 0

    def name(self) -> str:
        self.used += 1
        return f"v{self.used}"

    def add(self, line: str) -> str:
        name = self.name()
        self.lines.append(f"{name} = {line}")
        return name

    def any_tensor(self) -> str:
        return self.rng.choice(self.tensors[-3:])

    @contextmanager
    def inside(self) -> Iterator[list[str]]:
        """The lines of a body; what it makes can't be used after it."""
        before = self.lines, list(self.tensors), list(self.counts), list(self.sequences)
        self.lines, self.depth = [], self.depth + 1
        yield self.lines
        self.lines, self.tensors, self.counts, self.sequences = before
        self.depth -= 1

    def step(self) -> None:
        """Add one random operation."""
        steps = [self.product, self.joined, self.sliced, self.list_made, self.list_read, self.counted]
        if self.depth < 2:
            steps += [self.repeated] * 3 + [self.collected, self.chosen, self.scanned, self.mapped]
        self.rng.choice(steps)()

    def product(self) -> None:
        self.tensors.append(self.add(f"MatMul ({self.any_tensor()}, w)"))

    def joined(self) -> None:
        self.tensors.append(self.add(f"Concat <axis = 0> ({self.any_tensor()}, {self.any_tensor()})"))

    def sliced(self) -> None:
        source = self.any_tensor()
        self.tensors.append(self.add(f"Slice ({source}, {self.rng.choice(['zeros', 'ones'])}, many, zeros)"))

    def counted(self) -> None:
        if self.sequences and self.rng.random() < 0.5:
            self.counts.append(self.add(f"SequenceLength ({self.rng.choice(self.sequences)})"))
        else:
            shape = self.add(f"Shape ({self.any_tensor()})")
            rows = self.add(f"Gather <axis = 0> ({shape}, zero)")
            self.counts.append(self.add(f"Min ({rows}, {self.rng.choice(['two', 'three', 'seven'])})"))

    def list_made(self) -> None:
        kind = self.rng.randrange(3)
        if kind == 0:
            made = self.add(f"SequenceConstruct ({self.any_tensor()}, {self.any_tensor()})")
        elif kind == 1:
            made = self.add(f"SplitToSequence <axis = 1> ({self.any_tensor()}, two)")
            made = self.add(f"SequenceConstruct ({self.add(f'ConcatFromSequence <axis = 1> ({made})')})")
        else:
            made = self.add(f"SplitToSequence <axis = 0> (w, {self.rng.choice(['one', 'two', 'three'])})")
        self.sequences.append(made)

    def list_read(self) -> None:
        if not self.sequences:
            return
        source = self.rng.choice(self.sequences)
        kind = self.rng.randrange(3)
        if kind == 0:
            self.tensors.append(self.add(f"SequenceAt ({source}, {self.rng.choice(['zero', 'last'])})"))
        elif kind == 1:
            self.tensors.append(self.add(f"ConcatFromSequence <axis = 0> ({source})"))
        else:
            self.sequences.append(self.add(f"SequenceInsert ({source}, {self.any_tensor()})"))

    def repeated(self) -> None:
        """A Loop with two states, of which one or both may grow."""
        states, outs, trips = [self.name() for _ in range(4)], [self.name() for _ in range(3)], self.trips()
        starts = f"{self.any_tensor()}, {self.any_tensor()}"
        number, goes_on, done = self.name(), self.name(), self.name()
        with self.inside() as lines:
            self.tensors += states[:2]
            self.counts.append(number)
            for _ in range(self.rng.randrange(3)):
                self.step()
            first = self.add(f"MatMul ({states[0]}, w)")
            second = self.grown(states[1])
            lines += [
                f"{done} = Identity ({goes_on})",
                f"{states[2]} = Identity ({first})",
                f"{states[3]} = Identity ({second})",
                f"{outs[2]} = MatMul (w, w)",
            ]
        body = "\n".join(lines)
        stacked = self.name()
        self.lines.append(
            f"{outs[0]}, {outs[1]}, {stacked} = Loop ({trips}, {self.rng.choice(['yes', ''])}, {starts}) "
            f"<body = b{outs[0]} (int64 {number}, bool {goes_on}, float[?, 4] {states[0]}, "
            f"float[?, 4] {states[1]}) => (bool {done}, float[?, 4] {states[2]}, float[?, 4] {states[3]}, "
            f"float[4, 4] {outs[2]}) {{{body}}}>"
        )
        self.tensors += outs[:2]
        self.tensors.append(self.add(f"Reshape ({stacked}, rows)"))

    def grown(self, state: str) -> str:
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.add(f"Relu ({state})")
        if kind == 1:
            return self.add(f"Concat <axis = 0> ({state}, {self.rng.choice(['x', 'w'])})")
        if kind == 2:
            return self.add(f"MatMul ({state}, w)")
        more = self.add(f"Slice (w, zeros, {self.add(f'Unsqueeze ({self.counts[-1]}, zeros)')}, zeros)")
        return self.add(f"Concat <axis = 0> ({state}, {more})")

    def collected(self) -> None:
        """A Loop that inserts into a sequence; its elements are then joined."""
        empty, result, trips = self.add("SequenceEmpty ()"), self.name(), self.trips(positive=True)
        number, goes_on, done, before, after = (self.name() for _ in range(5))
        with self.inside() as lines:
            self.counts.append(number)
            for _ in range(self.rng.randrange(2)):
                self.step()
            made = self.add(f"MatMul ({self.any_tensor()}, w)")
            lines += [f"{after} = SequenceInsert ({before}, {made})", f"{done} = Identity ({goes_on})"]
        body = "\n".join(lines)
        self.lines.append(
            f"{result} = Loop ({trips}, , {empty}) <body = b{result} (int64 {number}, bool {goes_on}, "
            f"seq(float[?, 4]) {before}) => (bool {done}, seq(float[?, 4]) {after}) {{{body}}}>"
        )
        self.sequences.append(result)
        self.tensors.append(self.add(f"ConcatFromSequence <axis = 0> ({result})"))

    def chosen(self) -> None:
        """An If whose condition follows from sizes."""
        comparison = self.rng.choice(["Greater", "Less", "Equal", "GreaterOrEqual"])
        condition = self.add(f"{comparison} ({self.rng.choice(self.counts)}, {self.rng.choice(self.counts)})")
        if self.rng.random() < 0.3:
            condition = self.add(f"Not ({condition})")
        bodies, ends = [], []
        for _ in range(2):
            with self.inside() as lines:
                for _ in range(self.rng.randrange(3)):
                    self.step()
                ends.append(self.add(f"MatMul ({self.any_tensor()}, w)"))
            bodies.append("\n".join(lines))
        result = self.name()
        self.lines.append(
            f"{result} = If ({condition}) <"
            f"then_branch = t{result} () => (float[?, 4] {ends[0]}) {{{bodies[0]}}}, "
            f"else_branch = e{result} () => (float[?, 4] {ends[1]}) {{{bodies[1]}}}>"
        )
        self.tensors.append(result)

    def scanned(self) -> None:
        """A Scan over the rows of a tensor; its state doesn't grow."""
        row, out, state, end, result = (self.name() for _ in range(5))
        self.lines.append(
            f"{end}, {result} = Scan <num_scan_inputs = 1, body = "
            f"s{result} (float[4, 4] {state}, float[4] {row}) => (float[4, 4] a{state}, float[4] {out}) {{"
            f"a{state} = MatMul ({state}, w)\n{out} = MatMul ({row}, w)}}> (w, {self.any_tensor()})"
        )
        self.tensors += [result, end]

    def mapped(self) -> None:
        if not self.sequences:
            return
        one, out, result = (self.name() for _ in range(3))
        self.lines.append(
            f"{result} = SequenceMap <body = m{result} (float[?, 4] {one}) => (float[?, 4] {out}) "
            f"{{{out} = MatMul ({one}, w)}}> ({self.rng.choice(self.sequences)})"
        )
        self.sequences.append(result)

    def trips(self, *, positive: bool = False) -> str:
        choices = ["n", "two", "three"] if positive else self.counts[-4:]
        return self.rng.choice(choices)


def program(seed: int, steps: int = 4) -> ir.Model:
    """A random model with one open size, N."""
    made = Program(rng=Random(seed))  # noqa: S311 - no secret
    for _ in range(steps):
        made.step()
    last = made.add(f"MatMul ({made.tensors[-1]}, w)")
    numbers = {"zero": 0, "one": 1, "two": 2, "three": 3, "seven": 7, "last": -1}
    constants = "\n".join(
        [f"{name} = Constant <value = int64 {{{number}}}> ()" for name, number in numbers.items()]
        + [
            f"{name} = Constant <value = int64[{len(row)}] {{{', '.join(map(str, row))}}}> ()"
            for name, row in {"zeros": [0], "ones": [1], "many": [2**40], "rows": [-1, WIDTH]}.items()
        ]
    )
    body = "\n".join(made.lines)
    return zoo.model(
        f"g (float[N, 4] x) => (float[?, ?] {last}) {{ {constants}\n"
        "yes = Constant <value = bool {1}> ()\n"
        f"shape = Shape (x)\n n = Gather <axis = 0> (shape, zero)\n{body} }}",
        w=np.eye(WIDTH, dtype=np.float32),
    )


def executed(model: ir.Model, size: int, folder: Path) -> int:
    """MACs of the MatMuls that onnxruntime runs."""
    proto = ir.to_proto(model)
    proto.ir_version = 10
    feed = {"x": np.ones((size, WIDTH), np.float32)}
    return sum(macs.matmul(one) for one in macs.ran(proto, feed, folder) if one.op == "MatMul")


def formula_at(text: str, size: int) -> int:
    n = sympy.Symbol("N", integer=True, positive=True)
    return int(sympy.sympify(text, locals={"N": n}).subs(n, size))


def check(seed: int, folder: Path) -> bool:
    """Compare totals and formula with what ran at several sizes; return whether all layers were counted.

    Sizes at which onnxruntime fails are left out: its Scan takes no empty sequences.
    """
    model = program(seed)
    found = analyze(model)
    whole = not found.uncounted
    for size in SIZES:
        try:
            ran = executed(model, size, folder)
        except Fail:
            continue
        bound = analyze(model, dims={"N": size})
        assert bound.totals.macs == ran or bound.uncounted
        if not found.uncounted and "macs" in found.formulas:
            assert formula_at(found.formulas["macs"], size) == ran
        whole &= not bound.uncounted
    return whole


@pytest.mark.parametrize("seed", [0, 4, 6, 8, 13, 47, 416])
def test_random_programs_have_the_macs_that_ran(seed: int, tmp_path: Path) -> None:
    assert check(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 300, 20))
def test_many_random_programs_have_the_macs_that_ran(start: int, tmp_path: Path) -> None:
    whole = [check(seed, tmp_path) for seed in range(start, start + 20)]
    assert sum(whole) >= 0.85 * len(whole)
