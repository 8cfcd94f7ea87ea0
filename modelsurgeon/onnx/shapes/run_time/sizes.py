"""Sizes that are known at run time only: what each is, its bound where one follows, and its default."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.shapes.binding import RUN_TIME_SIZES_KEY, Dims
from modelsurgeon.onnx.shapes.run_time.declared_shapes import Dim, laid_down


@dataclass(frozen=True, kw_only=True)
class RunTimeSize:
    """A size that no input determines.

    what: what it is, in words. most: the largest size possible, if known. usual: the size that is assumed.
    """

    name: str
    what: str
    most: Dim | None = None
    usual: Dim = 1

    def evaluate(self, dims: Dims) -> RunTimeSize:
        """The same with its bound and default at these sizes of other symbols."""
        most = self.most.evaluate(dims) if isinstance(self.most, ir.SymbolicDim) else self.most
        usual = self.usual.evaluate(dims) if isinstance(self.usual, ir.SymbolicDim) else self.usual
        return replace(self, most=most, usual=usual)

    def default(self, dims: Dims) -> int:
        """The size that is assumed at these sizes of other symbols; never 0."""
        size = self.evaluate(dims).usual
        return max(size, 1) if isinstance(size, int) else 1

    def note(self, dims: Dims) -> str:
        """A note that says what the size is, its bound, and what is assumed."""
        most = "" if self.most is None else f", at most {self.most}"
        return f"{self.name}: {self.what}{most}; counted at {dims[self.name]}; set with --dim {self.name}=N"


def run_time_sizes(model: ir.Model) -> dict[str, RunTimeSize]:
    """The sizes of a bound model that are known at run time only, by symbol, in file order."""
    found: dict[str, RunTimeSize] = model.meta.setdefault(RUN_TIME_SIZES_KEY, {})
    return found


def default_run_time_sizes(model: ir.Model, dims: Dims) -> dict[str, int]:
    """The sizes that are assumed, by symbol. dims: sizes of the symbols of the inputs."""
    found = dict(dims)
    for name, size in run_time_sizes(model).items():
        found[name] = size.default(found)
    return {name: found[name] for name in run_time_sizes(model)}


def run_time_size_notes(model: ir.Model, dims: Dims) -> list[str]:
    """A note on each size that is known at run time only. dims: the sizes that are assumed."""
    return [size.note(dims) for name, size in run_time_sizes(model).items() if name in dims]


def close_run_time_sizes(model: ir.Model, dims: Dims) -> None:
    """Fix the sizes that are bound, and forget those no longer in use.

    Raises UnknownShape for a size above its bound.
    """
    in_use = symbols_of(laid_down(model))
    for value, shape in laid_down(model).items():
        laid_down(model)[value] = shape.evaluate(dims)
    for name, size in list(run_time_sizes(model).items()):
        found = size.evaluate(dims)
        if name in dims and isinstance(found.most, int) and dims[name] > found.most:
            raise UnknownShape(f"{name} is bound to {dims[name]}, but is {size.what}: at most {found.most}")
        run_time_sizes(model)[name] = found
        if name in dims or name not in in_use:
            del run_time_sizes(model)[name]


def symbols_of(values: Iterable[ir.Value | None]) -> set[str]:
    """Symbols in the shapes of values."""
    shapes = [value.shape for value in values if value is not None and value.shape is not None]
    return {name for shape in shapes if shape.is_dynamic() for name in shape.free_symbols()}
