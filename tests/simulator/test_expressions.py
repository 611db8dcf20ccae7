"""Formulas against independent evaluation, finite differences, complex derivatives and ngspice."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ohmostat.simulator.devices import TIME, Current
from ohmostat.simulator.expression_parser import DEEPEST, LONGEST
from ohmostat.simulator.expressions import parse_constant, parse_expression
from ohmostat.simulator.ngspice import ngspice_available, run_ngspice
from ohmostat.simulator.spice_numbers import ExpressionError, parse_number

Formula = tuple[str, Callable[[float, float], float]]  # text, and the same in plain Python
NAMES = {"x": "v(a)", "y": "i(vs)"}


def _combine(children: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    """Formulas of formulas, smooth and bounded enough for a finite difference."""

    def unary(text: str, function: Callable[[float], float]) -> st.SearchStrategy[Formula]:
        return children.map(lambda c: (text.format(c[0]), lambda x, y: function(c[1](x, y))))

    def binary(text: str, function: Callable[[float, float], float]) -> st.SearchStrategy[Formula]:
        return st.tuples(children, children).map(
            lambda p: (text.format(p[0][0], p[1][0]), lambda x, y: function(p[0][1](x, y), p[1][1](x, y)))
        )

    return st.one_of(
        unary("tanh({})", math.tanh),
        unary("sin({})", math.sin),
        unary("cos({})", math.cos),
        unary("atan({})", math.atan),
        unary("-({})", lambda v: -v),
        unary("exp(tanh({}))", lambda v: math.exp(math.tanh(v))),
        unary("sqrt(1+({})^2)", lambda v: math.sqrt(1 + v * v)),
        unary("ln(2+cos({}))", lambda v: math.log(2 + math.cos(v))),
        unary("pow(2+sin({}), 1.5)", lambda v: (2 + math.sin(v)) ** 1.5),
        unary("asinh({})", math.asinh),
        binary("{} + {}", lambda a, b: a + b),
        binary("({}) - ({})", lambda a, b: a - b),
        binary("({}) * ({})", lambda a, b: a * b),
        binary("({}) / (2 + sin({}))", lambda a, b: a / (2 + math.sin(b))),
        binary("(1.5+tanh({}))**tanh({})", lambda a, b: (1.5 + math.tanh(a)) ** math.tanh(b)),
    )


leaves: st.SearchStrategy[Formula] = st.one_of(
    st.just(("v(a)", lambda x, y: x)),
    st.just(("i(vs)", lambda x, y: y)),
    st.floats(0.1, 3.0).map(lambda c: (repr(c), lambda x, y: c)),
)
formulas = st.recursive(leaves, _combine, max_leaves=8)
voltages = st.floats(-2.0, 2.0)


def values(expression: Any, x: float, y: float) -> np.ndarray[Any, Any]:
    """The formula's ports, whichever of the two it has, at x and y."""
    by_port = {("a", "0"): x, Current("vs"): y}
    return np.array([[by_port[port]] for port in expression.ports]).reshape(len(expression.ports), 1)


@settings(max_examples=200, deadline=None)
@given(formulas, voltages, voltages)
def test_values_are_those_of_plain_arithmetic(formula: Formula, x: float, y: float) -> None:
    text, reference = formula
    expression = parse_expression(text)
    value, _ = expression.evaluate(values(expression, x, y))
    assert value[0] == pytest.approx(reference(x, y), rel=1e-10, abs=1e-10)


@settings(max_examples=200, deadline=None)
@given(formulas, voltages, voltages)
def test_slopes_are_finite_differences_and_complex_steps(formula: Formula, x: float, y: float) -> None:
    expression = parse_expression(formula[0])
    u, h = values(expression, x, y), 1e-6
    value, slopes = expression.evaluate(u)
    if not np.isfinite(slopes).all() or np.abs(slopes).max(initial=0.0) > 1e6:
        return
    for port in range(len(expression.ports)):
        step = np.zeros_like(u)
        step[port] = h
        above, below = expression.evaluate(u + step)[0], expression.evaluate(u - step)[0]
        scale = 1.0 + np.abs(slopes[port]).max() + np.abs(value).max()
        assert np.abs((above - below) / (2 * h) - slopes[port]).max() < 1e-4 * scale
        if expression.analytic:
            exact = expression.evaluate(u + 1e-30j * (step / h))[0].imag / 1e-30
            assert np.abs(exact - slopes[port]).max() < 1e-9 * scale


@settings(max_examples=200, deadline=None)
@given(formulas)
def test_text_reads_back_as_the_same_formula(formula: Formula) -> None:
    expression = parse_expression(formula[0])
    assert parse_expression(expression.text()) == expression
    names = ["v(first)", "v(second)"][: len(expression.ports)]
    renamed = parse_expression(expression.text(names))
    assert renamed.steps == expression.steps
    assert renamed.ports == tuple((name[2:-1], "0") for name in names)


KINKED = [
    ("abs(v(a))", abs, np.sign),
    ("uramp(v(a))", lambda x: max(x, 0.0), lambda x: float(x > 0)),
    ("u(v(a))", lambda x: float(x > 0), lambda x: 0.0),
    ("u2(v(a))", lambda x: min(max(x, 0.0), 1.0), lambda x: float(0 < x < 1)),
    ("sgn(v(a))", np.sign, lambda x: 0.0),
    ("min(v(a), 0.5)", lambda x: min(x, 0.5), lambda x: float(x < 0.5)),
    ("max(0.5, v(a))", lambda x: max(x, 0.5), lambda x: float(x > 0.5)),
    ("limit(v(a), -0.5, 1)", lambda x: min(max(x, -0.5), 1.0), lambda x: float(-0.5 < x < 1)),
    ("v(a) > 0.3 ? v(a)^2 : -v(a)", lambda x: x * x if x > 0.3 else -x, lambda x: 2 * x if x > 0.3 else -1),
    ("v(a)>=0 && v(a)<1 || !(v(a)!=-2)", lambda x: float(0 <= x < 1 or x == -2), lambda x: 0.0),
    ("pwr(v(a), 2)", lambda x: x * abs(x), lambda x: 2 * abs(x)),
    ("v(a)^3", lambda x: abs(x) ** 3, lambda x: 3 * x * abs(x)),
    ("floor(v(a))+ceil(v(a))+nint(v(a))", lambda x: math.floor(x) + math.ceil(x) + round(x), lambda x: 0.0),
]  # fmt: skip


@pytest.mark.parametrize("text, value, slope", KINKED, ids=[text for text, _, _ in KINKED])
def test_functions_with_kinks(text: str, value: Any, slope: Any) -> None:
    x = np.array([-2.0, -0.7, -0.2, 0.25, 0.35, 0.8, 1.7])
    expression = parse_expression(text)
    result, slopes = expression.evaluate(x[None])
    np.testing.assert_allclose(result, [value(v) for v in x], rtol=1e-13)
    np.testing.assert_allclose(slopes[0], [slope(v) for v in x], rtol=1e-13)
    assert not expression.analytic
    with pytest.raises(ExpressionError, match="no complex derivative"):
        expression.evaluate(x[None] + 0j)


def test_even_powers_are_analytic() -> None:
    expression = parse_expression("v(a)^2 + pow(v(a),4) + pwr(v(a),3)")
    z = np.array([[0.3 - 1.2j]])
    value, slopes = expression.evaluate(z)
    assert expression.analytic
    np.testing.assert_allclose(value, (z**2 + z**4 + z**3)[0])
    np.testing.assert_allclose(slopes, 2 * z + 4 * z**3 + 3 * z**2)
    assert not parse_expression("v(a)^v(b)").analytic


def test_batches_broadcast_and_ports_come_in_order() -> None:
    expression = parse_expression("v(b) - 2*v(a,b) * time + i(v1)")
    assert expression.ports == (("b", "0"), ("a", "b"), TIME, Current("v1"))
    u = np.random.default_rng(0).normal(size=(4, 3, 5))
    value, slopes = expression.evaluate(u)
    np.testing.assert_allclose(value, u[0] - 2 * u[1] * u[2] + u[3])
    np.testing.assert_allclose(slopes, np.stack([np.ones((3, 5)), -2 * u[2], -2 * u[1], np.ones((3, 5))]))


def test_nothing_overflows_where_the_limit_is_finite() -> None:
    u = np.array([[-1e4, -800.0, 0.0, 800.0, 1e4]])
    value, slopes = parse_expression("1/(1+exp(-v(a)))").evaluate(u)
    np.testing.assert_allclose(value, [0, 0, 0.5, 1, 1], atol=1e-100)
    np.testing.assert_allclose(slopes[0], [0, 0, 0.25, 0, 0], atol=1e-100)
    value, slopes = parse_expression("v(a) > 0 ? sqrt(v(a)) : 0").evaluate(u)
    assert np.isfinite(value).all() and np.isfinite(slopes).all()  # the root of -800 stays out


CONSTANTS = {
    "-2^2": -4, "2^3^2": 64, "2**-1*3": 1.5, "10-3-2+20/5/2": 7, "1k+1meg": 1.001e6, "1mil": 25.4e-6,
    "2>1?3:4+5": 3, "1?0?1:2:3": 2, "!1": 0, "u(0)": 0.5, "3<>3": 0, "log(10)": math.log(10),
    "ln(10)+log10(100)": math.log(10) + 2, "2*-3": -6, "--3": 3, "1/0": 1e32, "0^0": 1, "pi": math.pi,
    "min(1,2)+max(3,4)": 5, "abs(-3)+nint(2.5)": 5, "ternary_fcn(1,2,3)": 2, "3.3volts": 3.3, "1a": 1,
    "pwr(0-2,2)": 4, "u2(0.3)": 0.3, "1==1": 1, "1&&0": 0, "1||0": 1, "(1-3)^3": 8, "(1-3)**3": 8,
}  # fmt: skip


@pytest.mark.parametrize("text", CONSTANTS)
def test_constants(text: str) -> None:
    assert parse_constant(text) == pytest.approx(CONSTANTS[text], rel=1e-15)


def test_powers_of_parameters_and_of_sources_change_roles() -> None:
    """As in ngspice: ``pow`` keeps the base's sign in parameters, ``pwr`` in B sources."""
    assert parse_constant("pow(-2, 3)") == -8.0 and parse_constant("pwr(-2, 3)") == 8.0
    assert parse_expression("pow(-2, 3)").steps == (8.0,) and parse_expression("pwr(-2, 3)").steps == (-8.0,)
    assert parse_constant("int(2.7) + w", {"w": 1.0}.__getitem__) == 3.0


@pytest.mark.parametrize(("function", "base"), [("ln", math.e), ("log", math.e), ("log10", 10.0)])
def test_a_logarithm_is_finite_where_a_search_starts(function: str, base: float) -> None:
    """At 0 V, and nowhere else than it was; a parameter's stays refused there."""
    value, slopes = parse_expression(f"{function}(v(a))").evaluate(np.array([[0.0, 1e-20, 2.0]]))
    assert np.isfinite(value).all() and value[0] == pytest.approx(-32.0 / math.log10(base))
    np.testing.assert_allclose(value[1:], np.log([1e-20, 2.0]) / math.log(base), rtol=1e-15)
    np.testing.assert_allclose(slopes[0], 1.0 / np.array([1e-12, 1e-20, 2.0]) / math.log(base))
    with pytest.raises(ExpressionError, match="of 0 is not a finite number"):
        parse_constant(f"{function}(0)")


NGSPICE = [
    "v(a)^2-1", "-v(a)^2", "(v(a)+2)^0.5", "pow(v(a),3)", "pwr(v(b),3)", "v(a)**3/(v(b)-1)",
    "log(v(a)+3)", "log10(v(a)+3)+ln(v(a)+2)", "u(v(b))+u2(v(a)/3)+uramp(v(b))", "v(a)>1 ? v(a) : v(b)",
    "sgn(v(b))*abs(v(b))",
    "min(v(a),v(b))+2*max(v(a),v(b))", "floor(v(a))+10*ceil(v(b))+100*nint(v(a))", "sinh(v(b))+cosh(v(b))",
    "asin(v(b)/2)+acos(v(b)/2)*2", "atan(v(a))+asinh(v(b))", "acosh(v(a)+1)+atanh(v(b)/2)",
    "exp(-v(a))*sqrt(v(a)+1)", "tan(v(b))+sin(v(a))*cos(v(b))", "v(a)-v(b)-1+2*3/4", "v(a,b)*1k+1meg*v(b)",
    "v(a)==1.5 && v(b)<0 || v(a)!=1.5", "2^v(b)^2", "1+v(a)>1 ? 3 : 4+5", "ternary_fcn(v(b)<0,v(a),v(b))",
    "i(va)*1k + v(a)", "v(a)*pi+e", "-(v(a)+1)^-1*3", "!v(a)+!0",
]  # fmt: skip


def test_ngspice_computes_the_same() -> None:
    if not ngspice_available():
        if os.environ.get("OHMOSTAT_REQUIRE_NGSPICE"):
            pytest.fail("ngspice is not on the PATH, and OHMOSTAT_REQUIRE_NGSPICE is set")
        pytest.skip("ngspice is not on the PATH")
    parsed = [parse_expression(text) for text in NGSPICE]
    sources = [f"b{k} o{k} 0 v={text}\nbt{k} t{k} 0 v={parsed[k]}" for k, text in enumerate(NGSPICE)]
    lines = ["formulas", "va a 0 1.5", "ra a 0 1k", "vb b 0 -0.7", *sources, ".op", ".end", ""]
    spice = run_ngspice("\n".join(lines))
    known = {("a", "0"): 1.5, ("b", "0"): -0.7, ("a", "b"): 2.2, Current("va"): -1.5e-3}
    for k, expression in enumerate(parsed):
        u = np.array([[known[port]] for port in expression.ports]).reshape(-1, 1)
        value = expression.evaluate(u)[0][0]
        assert spice[f"o{k}"] == pytest.approx(value, rel=1e-9), NGSPICE[k]
        assert spice[f"t{k}"] == pytest.approx(value, rel=1e-9), expression.text()


NUMBERS = {
    "4.7k": 4.7e3, "1MEG": 1e6, "10pF": 1e-11, "2.5V": 2.5, "100u": 1e-4, "1mil": 25.4e-6, "3m": 3e-3,
    "1F": 1e-15, "-.5": -0.5, "5.": 5.0, "1e3k": 1e6, "1e-3meg": 1e3, "2g": 2e9, "1.5t": 1.5e12, "7n": 7e-9,
    "1A": 1.0, "2x": 2.0, "1e": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers(text: str) -> None:
    assert parse_number(text) == NUMBERS[text]


@pytest.mark.parametrize("text", ["", "k", "1.2.3", "4k7", "1e+", "0x10", "1 2", "--1", "nan", "inf", "٣"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ExpressionError, match="is not a number"):
        parse_number(text)


REFUSED = {
    "": "the end where a number",
    "1+": "the end where a number",
    "2 3": "'3' where an operator or the end",
    "(1": "the end where '\\)'",
    "v()": "where v\\(node\\)",
    "v(a,b,c)": "where v\\(node\\)",
    "i(a,b)": "where i\\(device\\)",
    "foo(1)": "unknown function 'foo'; expected one of v, i, abs",
    "unary(1)": "unknown function",
    "tanh(1,2)": "',' where '\\)'",
    "max(1)": "'\\)' where ','",
    "width": "unknown name 'width'; expected a parameter",
    "log(-1)": "log of -1 is not a finite number",
    "1e999": "too large",
    "exp(1e300)*1e300": "not a finite number",
    "1 @ 2": "'@' where",
    "__import__('os')": "unknown function",
    "1 ? 2": "the end where ':'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match=REFUSED[text]):
        parse_expression(text)


@pytest.mark.parametrize("nest", ["(", "-", "!", "1?", "abs(", "2^-", "1?1:"])
def test_nesting_is_bounded(nest: str) -> None:
    with pytest.raises(ExpressionError, match=f"nested more than {DEEPEST} deep"):
        parse_expression(nest * (LONGEST // len(nest) - 1))


def test_length_is_bounded_and_long_sums_are_not_deep() -> None:
    with pytest.raises(ExpressionError, match=f"at most {LONGEST}"):
        parse_expression("1+" * LONGEST)
    expression = parse_expression("+".join(["v(a)"] * 1500))
    assert expression.evaluate(np.array([[2.0]]))[0][0] == 3000.0
    assert parse_expression(expression.text()) == expression


def test_constants_depend_on_no_circuit() -> None:
    with pytest.raises(ExpressionError, match="depends on v\\(a\\); expected numbers and parameters only"):
        parse_constant("2*v(a)")
