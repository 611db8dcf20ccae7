"""Netlists made wrong: what a hostile or unlucky text may contain, from a seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Lines = list[bytes]
T = TypeVar("T")

_HIERARCHY = b"""hierarchy and parameters
.global vdd
.param a=1k b={a*2} c='b+a'
.include "models.inc"
vdd vdd 0 1.8 ac 1 pulse(0 1.8 1n 1n 1n 10n 30n)
x1 vdd out cell r={b} m=2
x2 out 0 cell
rl out 0 {c} mismatch=0.1 tc1=1m
.subckt cell p q r={a} w='2*r'
r1 p n {r}
r2 n q {w}
d1 n q dm 2
x1 n q inner
.subckt inner s t
b1 s t i=1u*tanh(v(s,t)/0.1) + (v(s)>0 ? 1n : -1n)
c1 s t 1p ic=0
.ends
.ends cell
.ic v(out)=0.1
.nodeset v(x1.n)=0.5
.temp 40
.options gmin=1e-12 reltol=1e-4
.op
.tran 1n 100n uic
.ac dec 5 1 1meg
.noise v(out) vdd dec 5 1 1meg
.dc vdd 0 2 0.5
.tf v(out) vdd
.mc 10 seed=1
.meas tran top max v(out) from=1n to=90n
.meas tran late trig v(vdd) val='a/1k' rise=1 targ par('v(x1.n)*2') val=0.5 td=1n cross=last
.meas tran sum param='top+2*late'
.meas dc half find i(vdd) when v(out)=v(x1.n) fall=2
.measure ac corner when vdb(out)=-3
.end
"""
_MODELS = b""".model dm d is=1e-14 rs=1 cjo=1p
.model nm nmos vto=0.5 kp=100u
"""
_NUMBERS = [
    *b"0 -1 1e308 -1e308 1e-320 1e999 nan inf -inf 1e-999 0x10 1__0 4k7 1..2 1meg 1e+ 99999999999999".split(),
    *(b"9" * 5000, b"1" + b"0" * 400, b".", b"1e" + b"9" * 4000, b"\xd9\xa3"),
]
# One a line; `|` stands for a line's end.
_SHORT_CARDS = rb"""
.include '../secret.inc'
.include /etc/passwd
.include '/dev/zero'
.include link.inc
.include pipe
.include self.inc
.include models.inc
.include '.'
.include
.lib '../secret.inc' tt
.lib tt|.lib '../secret.inc' tt|.endl
.control|shell id|.endc
.subckt loop a b|xl a b loop|.ends|xx 1 0 loop
.subckt never a
.subckt
.ends
.model
.param z={y} y={x} x={z}
.param z=
.global
.end
+ 1 2 3
b9 q 0 v=log(v(q))/0|rq q 0 1
b9 q 0 v=exp(exp(v(q)))|rq q 0 1
b9 q 0 v=v(q)^v(q)^v(q)|rq q 0 1
b9 q 0 v=__import__('os').system('id')
x9 a b c d e f g
x9
v9 out 0 1|v8 out 0 2
r9 lonely nowhere 1
i9 0 lonely 1
c9 lonely 0 1p
l9 out 0 1u
v9 a9 0 sin(0 1 1e300)
d9 out 0 dm 1e300
m9 1 2 3 4 nm w=0
f9 out 0 f9 1
h9 h9 0 h9 1
e9 q 0 q 0 1
s9 out 0 out 0 sm|.model sm sw vt=0.1 vh=1
q1 1 2 3 x
.tran 0 0
.tran 1e-300 1e300
.tran 1m 1|v9 a9 0 pulse(0 1 0 1p 1p 1p 10p)|r9 a9 0 1
.tran 1n 1 0 1n|v9 a9 0 sin(0 1 1g)|r9 a9 0 1
.dc vdd 0 1 1u vdd 0 1 1u
.dc vdd 0 1 1m
.ac lin 1000000 1 1g
.tran 1u 1m
.mc 1000000
.model q9 npn bf=100 rubbish=7
c9 out 0 1p mismatch=0.1
.ac dec 1e9 1 1e9
.dc vdd 0 1 1e-300
.mc 1e18
.temp -400
.temp 9e3
.ic v(nowhere)=1
.options gmin=-1 reltol=0
.options foo=bar
.noise v(out) nothing dec 1 1 2
=
=1
r9 = 1
{
'
r9 a b {'}'
"""
_CARDS = [
    *(line.replace(b"|", b"\n") for line in _SHORT_CARDS.strip().splitlines()),
    b".inc " + b"../" * 200 + b"etc/passwd",
    b".include 'a\0b'",
    b".param p={" + b"(" * 500 + b"}",
    b"b9 q 0 v=" + b"-" * 3000 + b"1",
    b"b9 q 0 v=" + b"abs(" * 300 + b"v(q)" + b")" * 300,
    b"b9 out 0 i=" + b"+".join([b"v(out)"] * 900),
    b"v9 a9 0 pwl(" + b"0 1 " * 3000 + b")",
    b"r9 out 0 " + b"1" * 200_000,
    b"r9 out 0 1 " + b"m=1 " * 20_000,
    b"*" * 100_000,
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xf0\x9f\x92\xa9 1 2 3",
    b"r\xc3\xa9 out 0 1k",
]


def _bombs() -> list[bytes]:
    """Few lines that expand into very many devices, parameters or nodes."""
    doubling = [b".subckt d%d p\nxa p d%d\nxb p d%d\n.ends" % (k, k - 1, k - 1) for k in range(1, 29)]
    chain = b" ".join(b"z%d={z%d*2}" % (k, k - 1) for k in range(1, 1500))
    return [
        b"\n".join([b"xq out d28", b".subckt d0 p\nrr p 0 1\n.ends", *doubling]),
        b".param z0=1 " + chain + b"\nr9 out 0 {z1499}",
        b"\n".join(b".subckt s%d a" % k for k in range(500)),
        b"\n".join(
            [
                *(b"xq%d out long w=%d" % (k, k) for k in range(300)),
                b".subckt long p w=1",
                *(b".param q%d={%s}" % (k, b"+".join([b"w*1.0"] * 800)) for k in range(40)),
                b"rr p 0 1",
                b".ends",
            ]
        ),
    ]


def prepare(folder: Path) -> None:
    """A folder for mutated netlists, with what must not be reached around it."""
    inside = folder / "inside"
    inside.mkdir()
    (folder / "secret.inc").write_bytes(b"rsecret out 0 1\n")
    (inside / "models.inc").write_bytes(_MODELS)
    (inside / "self.inc").write_bytes(b".include self.inc\n")
    (inside / "link.inc").symlink_to(folder / "secret.inc")
    os.mkfifo(inside / "pipe")


def corpus(circuits: Path) -> list[bytes]:
    """Valid netlists to start from."""
    return [_HIERARCHY, *(path.read_bytes() for path in sorted(circuits.glob("*.cir")))]


def mutated(seed: int, valid: Sequence[bytes]) -> bytes:
    """One of the valid netlists after one to three mutations."""
    rng = np.random.default_rng(seed)
    lines = _pick(rng, valid).split(b"\n")
    for _ in range(rng.integers(1, 4)):
        lines = _pick(rng, _MUTATIONS)(rng, lines, valid)
    return b"\n".join(lines)


def _pick(rng: Rng, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _place(rng: Rng, lines: Lines) -> int:
    return int(rng.integers(len(lines))) if lines else 0


def _flip(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    """Some bytes replaced."""
    text = bytearray(b"\n".join(lines)) or bytearray(b"\n")
    for place in rng.integers(len(text), size=rng.integers(1, 4)):
        text[place] = int(rng.integers(256))
    return bytes(text).split(b"\n")


def _drop(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    place = _place(rng, lines)
    return lines[:place] + lines[place + 1 :]


def _repeat(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    place, other = _place(rng, lines), _place(rng, lines)
    return lines[:other] + lines[place : place + 1] + lines[other:]


def _swap(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    """The words of a line in another order."""
    place = _place(rng, lines)
    words = b"".join(lines[place : place + 1]).split(b" ")
    return [*lines[:place], b" ".join(words[k] for k in rng.permutation(len(words))), *lines[place + 1 :]]


def _splice(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    """The end of another netlist."""
    other = _pick(rng, valid).split(b"\n")
    return lines[: _place(rng, lines)] + other[_place(rng, other) :]


def _truncate(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    text = b"\n".join(lines)
    return text[: int(rng.integers(len(text) + 1))].split(b"\n")


def _number(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    """A word replaced by an odd number."""
    place = _place(rng, lines)
    words = b"".join(lines[place : place + 1]).split(b" ")
    words[int(rng.integers(len(words)))] = _pick(rng, _NUMBERS)
    return [*lines[:place], b" ".join(words), *lines[place + 1 :]]


def _insert(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    place = 1 + _place(rng, lines)
    return lines[:place] + _pick(rng, _CARDS).split(b"\n") + lines[place:]


def _bomb(rng: Rng, lines: Lines, valid: Sequence[bytes]) -> Lines:
    if rng.random() > 0.05:  # each takes a second to be refused
        return _insert(rng, lines, valid)
    return lines[:2] + _pick(rng, _bombs()).split(b"\n") + lines[2:]


_MUTATIONS: tuple[Callable[[Rng, Lines, Sequence[bytes]], Lines], ...] = (
    _flip, _flip, _drop, _repeat, _swap, _splice, _truncate, _number, _number, _insert, _insert, _bomb,
)  # fmt: skip
