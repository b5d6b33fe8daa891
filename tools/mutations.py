"""The small mistakes that can be made in a Python file, one at a time, as edits of its text."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple

SWAPPED_OPERATORS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
OPPOSITES = {
    "min": "max", "amin": "amax", "argmin": "argmax", "minimum": "maximum",
    "floor": "ceil", "any": "all", "sum": "mean",
}  # fmt: skip
SWAPPED_FUNCTIONS = OPPOSITES | {b: a for a, b in OPPOSITES.items()}
SWAPPED_FUNCTIONS |= {"round": "floor", "rint": "floor", "sorted": "list"}
EXITS = ast.Raise | ast.Return | ast.Continue | ast.Break


class Mutation(NamedTuple):
    """In the file's bytes, `start` to `end` become `text`; `line` counts from 1."""

    line: int
    kind: str
    start: int
    end: int
    text: bytes

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text + source[self.end :]


def mutations(source: bytes) -> list[Mutation]:
    """Every mistake that this module knows, line by line, each of them valid Python.

    Operators and opposite functions are exchanged, numbers and flags changed (defaults, too),
    conditions negated, keyword arguments dropped, and an `if` that only leaves (raise, return,
    continue, break) is never taken. Annotations, what a `raise` says, f-strings and the part for
    the command line stay: their mistakes change no result. SyntaxError if `source` is not Python.

    >>> [m.apply(b"low = min(x, 0)").decode() for m in mutations(b"low = min(x, 0)")]
    ['low = min(x, 1)', 'low = max(x, 0)']
    """
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def mutation(kind: str, node: ast.AST, text: str) -> Mutation:
        start = starts[node.lineno - 1] + node.col_offset  # ast counts columns in bytes
        end = starts[node.end_lineno - 1] + node.end_col_offset
        return Mutation(node.lineno, kind, start, end, text.encode())

    return sorted({mutation(*mistake) for mistake in _mistakes(ast.parse(source))})


def _mistakes(node: ast.AST) -> Iterator[tuple[str, ast.AST, str]]:
    """(kind, the node that is replaced, by what), in the node and all that is below it."""
    yield from _here(node)
    for part in _parts(node):
        yield from _mistakes(part)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """What is directly below a node, without what changes no result."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.If(test=ast.Compare(left=ast.Name("__name__"))):
            return
        case ast.Call(func=ast.Name("isinstance")):
            yield node.args[0]  # the other one is a type, as in an annotation
            return
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            yield from (v for v in (value if isinstance(value, list) else [value]) if _is_node(v))


def _is_node(value: object) -> bool:
    return isinstance(value, ast.AST)


def _here(node: ast.AST) -> Iterator[tuple[str, ast.AST, str]]:
    match node:
        case ast.Compare():
            for k, operator in enumerate(node.ops):
                ops = [*node.ops[:k], SWAPPED_OPERATORS[type(operator)](), *node.ops[k + 1 :]]
                yield "comparison", node, _changed(node, ops=ops)
        case ast.BoolOp():
            yield "boolean", node, _changed(node, op=SWAPPED_OPERATORS[type(node.op)]())
        case ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPPED_OPERATORS:
            yield "arithmetic", node, _changed(node, op=SWAPPED_OPERATORS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "sign", node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool()):
            yield "constant", node, repr(not node.value)
        case ast.Constant(value=int()):
            yield "constant", node, repr(node.value + 1)
        case ast.Constant(value=float()):
            yield "constant", node, repr(2 * node.value or 1.0)
        case ast.Call():
            match node.func:
                case ast.Name(id=name) if name in SWAPPED_FUNCTIONS:
                    yield "opposite", node.func, SWAPPED_FUNCTIONS[name]
                case ast.Attribute(attr=name) if name in SWAPPED_FUNCTIONS:
                    yield "opposite", node.func, _changed(node.func, attr=SWAPPED_FUNCTIONS[name])
            for keyword in node.keywords:
                if keyword.arg:
                    rest = [k for k in node.keywords if k is not keyword]
                    yield "keyword", node, _changed(node, keywords=rest)
        case ast.If(orelse=[]) if isinstance(node.body[-1], EXITS):
            yield "guard", node.test, "False"
        case ast.If() | ast.IfExp() if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            yield "condition", node.test, f"(not {ast.unparse(node.test)})"


def _changed(node: ast.AST, **fields: object) -> str:
    """The source of the node with other fields, in brackets where it is part of an expression."""
    other = copy.copy(node)
    for name, value in fields.items():
        setattr(other, name, value)
    text = ast.unparse(other)
    return f"({text})" if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp) else text
