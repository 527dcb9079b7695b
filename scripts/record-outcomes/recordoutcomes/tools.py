"""The calculator that a model may call by answering calc(EXPRESSION)."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable

_CALL = re.compile(r"^\s*calc\((.+)\)", re.DOTALL)
_LIMIT = 1e15
_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            a, b = _value(left), _value(right)
            if isinstance(op, ast.Pow) and (abs(a) > 1e4 or abs(b) > 60):
                raise ValueError("power is out of range")
            result = _BINARY[type(op)](a, b)
            if isinstance(result, complex) or abs(result) > _LIMIT:
                raise ValueError("result is out of range")
            return result
        case _:
            raise ValueError("not arithmetic on numbers")


def calculate(expression: str) -> str:
    """The value of an arithmetic expression, to ten digits; raises ValueError when it is none."""
    try:
        return f"{_value(ast.parse(expression.strip(), mode='eval').body):.10g}"
    except (SyntaxError, ArithmeticError, RecursionError) as fault:
        raise ValueError(f"calculator: {fault}") from fault


def resolve(text: str) -> str:
    """An answer with its call replaced by the result; other answers, and calls that cannot be computed, as they are."""
    match = _CALL.match(text)
    if not match:
        return text
    try:
        return calculate(match.group(1))
    except ValueError:
        return text
