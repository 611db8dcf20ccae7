"""Random circuits as SPICE text, of every kind of element: the same seed gives the same text.

Each has one operating point, or a ``.nodeset`` that names the one meant. Nodes come in blocks: within a
block everything is a monotone two-terminal element, or a transistor with a fixed gate, or feeds back less
than the nodes' resistors to ground take; control (gates, E, F, G, H, B, S) comes from earlier blocks only.
The Jacobian of such a circuit is diagonally dominant column by column, whatever the voltages.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SUPPLY = 5.0  # [V]
BELOW, ABOVE = -8.0, 12.0  # all other nodes, in small-signal circuits [V]
DURATION = 50e-6  # of a transient [s]

# Breakpoints, at which every simulator has a time point, stand just before the switches' threshold of 2 V: an
# abrupt switch otherwise turns anywhere within a step.
CLOCK = "Vclock clock 0 pwl(0 0 10u 0 10.5u 1.9999 11u 4 26u 4 26.5u 2.0001 27u 0 40u 0 40.5u 1.9999 41u 4)"

MODELS = """\
.model nch NMOS(LEVEL=1 VTO=0.8 KP=60u GAMMA=0.45 PHI=0.65 LAMBDA=0.03 CGSO=0.4n CGDO=0.4n CGBO=0.2n
+ CBD=60f CBS=50f PB=0.75 MJ=0.4 RD=40 RS=25)
.model pch PMOS(LEVEL=1 VTO=-0.9 KP=25u GAMMA=0.4 PHI=0.65 LAMBDA=0.04 CGSO=0.4n CGDO=0.4n CGBO=0.2n IS=2e-14
+ CJ=0.3m PB=0.9 MJ=0.5 FC=0.4 LD=50n)
.model native NMOS(VTO=-0.2 KP=40u GAMMA=0.8 PHI=0.7 CGSO=0.3n CJ=0.2m RSH=15)
.model ekvn NMOS(LEVEL=44 VTO=0.5 KP=50u GAMMA=0.7 PHI=0.7 LAMBDA=0.02)
.model ekvp PMOS(LEVEL=44 VTO=-0.6 KP=20u GAMMA=0.5 PHI=0.65 LAMBDA=0.05)
.model plain D(IS=1e-14)
.model fast D(IS=3e-13 N=1.4 CJO=2p VJ=0.8 M=0.45 TT=2n)
.model leaky D(IS=1e-9 N=1.8 RS=15 CJO=4p VJ=0.6 M=0.33)
.model zener D(IS=1e-13 N=1.2 CJO=3p BV=2.7 IBV=1e-5)
.model gate SW(VT=2 VH=0 RON=2k ROFF=5meg)
.model sheet R(RSH=200 DEFW=2u NARROW=0.1u TC1=1m TC2=2u)
.model plate C(CJ=1m CJSW=2n)
.global sub well
.subckt divider a b r=10k k=1
R1 a b {r}
R2 b 0 {k*r}
.ends
.subckt clamp a
.model inner D(IS=1e-15 N=1.1)
D1 a hi inner
D2 0 a inner
Vhi hi 0 {rail/2}
.ends
.subckt inverter in out vdd
M1 out in vdd well pch W=4u L=1u AD=9p AS=9p
M2 out in 0 sub nch W=2u L=1u
Rl out 0 200k
.ends
.subckt cascade a b r=5k
X1 a m divider r={r} k=2
X2 m b divider r={2*r}
Xc m clamp
.ends"""

FUNCTIONS = (  # of two controlling voltages, bounded or slow to grow
    "tanh(1.5*{x}-0.3)",
    "{x}*{y}/(1+{y}*{y})",
    "exp(-0.3*{x}*{x})-0.2*{y}",
    "sqrt(1+{x}*{x})",
    "sin(0.7*{x})+cos({y})",
    "atan({x}-{y})",
    "log(1.5+{x}*{x})",
    "max({x},0.3*{y})+min({y},1.1)",
    "0.5*abs({x}-0.123)",
    "pow(abs({x})+0.2,0.7)",
    "0.2*({x}+0.4)^2",
    "0.4*uramp({x}-0.37)",
    "{x}>1.23 ? {x}-1.23 : 0",
    "ln(2+abs({y}))*0.3+1/(1+exp(-{x}))",
)
SMOOTH = tuple(f for f in FUNCTIONS if not any(word in f for word in ("max", "abs", "uramp", "?")))
CONDUCTANCES = (  # of a voltage across the device, increasing [A]
    "0.3m*tanh(2*{u})",
    "5u*sinh({u}/3)",
    "20u*({u}*{u}*{u}+{u})",
    "50u*(uramp({u}-0.4)+0.1*{u})",
    "0.1m*atan({u})",
)


class _Circuit:
    """The cards so far, and what may control the next ones."""

    def __init__(self, seed: int, analysis: str, ekv: bool) -> None:
        self.rng = np.random.default_rng([seed, *analysis.encode()])
        self.analysis, self.ekv = analysis, ekv
        self.moving = analysis == "tran"
        self.cards: list[str] = []
        self.controls = ["in", "vdd"]  # nodes of earlier blocks
        self.sensed = ["Vin"]  # voltage sources so far; ``earlier`` has those of earlier blocks
        self.nodes: list[str] = []  # of this block
        self.controlling: set[str] = set()  # nodes of this block that feed back
        self.earlier = self.sensed

    def add(self, letter: str, text: str) -> str:
        name = f"{letter}{len(self.cards)}"
        self.cards.append(f"{name} {text}")
        return name

    def value(self, low: float, high: float) -> str:
        """A log-uniform value, in one of SPICE's spellings."""
        x = float(np.exp(self.rng.uniform(np.log(low), np.log(high))))
        suffixes = (("meg", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12))
        suffix, unit = next((s for s in suffixes if x >= s[1]), ("f", 1e-15))
        return f"{x / unit:.4g}{suffix}" if self.rng.random() < 0.7 else f"{x:.5e}"

    def signed(self, low: float, high: float) -> str:
        return ("-" if self.rng.random() < 0.5 else "") + self.value(low, high)

    def pick(self, choices: list[str] | tuple[str, ...], but: str = "") -> str:
        return str(self.rng.choice([c for c in choices if c != but]))

    def pair(self) -> tuple[str, str]:
        """Two nodes of this block, the second one perhaps ground."""
        a = self.pick(self.nodes)
        return a, self.pick([*self.nodes, "0"], but=a)

    def control(self) -> str:
        """A pair of controlling nodes."""
        a = self.pick(self.controls)
        return f"{a} {self.pick([*self.controls, '0'], but=a)}"

    def multiplicity(self) -> str:
        return f" m={self.rng.integers(2, 5)}" if self.rng.random() < 0.2 else ""

    def source(self, unit: float) -> str:
        """What an independent source gives, of about ``unit`` [V or A]."""
        dc = self.signed(0.01 * unit, unit)
        if self.moving and self.rng.random() < 0.4:
            return self.waveform(unit / 4.0)
        with_ac = self.analysis == "ac" and self.rng.random() < 0.4
        return f"dc {dc} ac {unit / 4.0:g} {self.rng.integers(-90, 90)}" if with_ac else dc

    def driven(self, letter: str, text: str) -> None:
        """A voltage-defined device, which reaches its block through a resistor."""
        node = f"d{len(self.cards)}"
        self.add(letter, f"{node} 0 {text}")
        self.add("R", f"{node} {self.pick(self.nodes)} {self.value(2e3, 50e3)}")

    def waveform(self, unit: float = 1.0) -> str:
        """Between -1 and 4 units [V or A], of which no edge is steeper than 1 unit/µs or so."""
        low, high = self.rng.uniform(-1, 1) * unit, self.rng.uniform(1.5, 4) * unit
        kind = self.rng.integers(4)
        if kind == 0:
            return f"pulse({low:.4g} {high:.4g} 3u 3u 4u {self.rng.uniform(5, 12):.2f}u 25u)"
        if kind == 1:
            return f"sin({(low + high) / 2:.4g} {(high - low) / 2:.4g} {self.rng.uniform(20, 80):.2f}k)"
        if kind == 2:
            return f"exp({low:.4g} {high:.4g} 2u {self.rng.uniform(4, 10):.2f}u 25u 6u)"
        return f"pwl(0 {low:.4g} 5u {low:.4g} 12u {high:.4g} 28u {high:.4g} 36u {low:.4g})"


def _resistor(c: _Circuit) -> None:
    a, b = c.pair()
    kind = c.pick(("value", "formula", "sheet"))
    value = {
        "value": c.value(1e3, 1e6) + c.pick(("", " tc1=1e-3", " tc1=-5e-4 tc2=3e-6")),
        "formula": "{base*3}",
        "sheet": f"sheet L={c.value(20e-6, 200e-6)} W=2.1u",
    }[kind]
    c.add("R", f"{a} {b} {value}{c.multiplicity()}")


def _capacitor(c: _Circuit) -> None:
    a, b = c.pair()
    value = c.value(10e-12, 1e-9) if c.rng.random() < 0.7 else f"plate L={c.value(50e-6, 500e-6)} W=300u"
    c.add("C", f"{a} {b} {value}{c.multiplicity()}")


def _inductor(c: _Circuit) -> None:
    a, b = c.pair()
    node = f"l{len(c.cards)}"
    c.add("R", f"{a} {node} {c.value(500, 20e3)}")
    c.add("L", f"{node} {b} {c.value(10e-6, 30e-3)}")


def _voltage_source(c: _Circuit) -> None:
    """In series with a resistor; its current may control others."""
    a, b = c.pair()
    node = f"s{len(c.cards)}"
    c.sensed.append(c.add("V", f"{a} {node} {c.source(1.5)}"))
    c.add("R", f"{node} {b} {c.value(2e3, 100e3)}")


def _current_source(c: _Circuit) -> None:
    a, b = c.pair()
    c.add("I", f"{a} {b} {c.source(300e-6)}{c.multiplicity()}")


def _diode(c: _Circuit) -> None:
    a, b = c.pair()
    if c.rng.random() < 0.5:
        a, b = b, a
    model = c.pick(("plain", "fast", "leaky", "zener"))
    size = c.pick(("", " area=3", " area=0.5")) + c.multiplicity()
    if c.analysis == "noise" and model == "leaky":
        size = ""  # there ngspice has the series resistance's noise wrong
    c.add("D", f"{a} {b} {model}{size}")


def _mosfet(c: _Circuit) -> None:
    a, b = c.pair()
    models = ("nch", "pch", "native", *(("ekvn", "ekvp") * 2 if c.ekv else ()))
    model = c.pick(models)
    bulk = "well" if model in ("pch", "ekvp") else "sub"
    size = f"W={c.value(2e-6, 20e-6)} L={c.value(1e-6, 3e-6)}{c.multiplicity()}"
    area = "" if model.startswith("ekv") else f" AD={c.value(1e-12, 1e-10)} AS=20p NRD=2 NRS=0.5"
    c.add("M", f"{a} {c.pick(c.controls)} {b} {bulk} {model} {size}{area}")


def _vcvs(c: _Circuit) -> None:
    linear = c.rng.random() < 0.7
    c.driven(
        "E", f"{c.control()} {c.signed(0.1, 1.5)}" if linear else f"vol='{_function(c, smooth=c.moving)}'"
    )


def _ccvs(c: _Circuit) -> None:
    c.driven("H", f"{c.pick(c.earlier)} {c.signed(100, 3e3)}")


def _cccs(c: _Circuit) -> None:
    a, b = c.pair()
    c.add("F", f"{a} {b} {c.pick(c.earlier)} {c.signed(0.05, 0.8)}")


def _vccs(c: _Circuit) -> None:
    a, b = c.pair()
    linear = c.rng.random() < 0.7
    law = f"{c.control()} {c.signed(1e-6, 100e-6)}" if linear else f"cur='50u*({_function(c)})'"
    c.add("G", f"{a} {b} {law}{c.multiplicity()}")


def _feedback(c: _Circuit) -> None:
    """Transconductances below half the controlling nodes' own conductance to ground, which is 20 µS.

    Two nodes that drive each other in turn make a gyrator.
    """
    free = [node for node in c.nodes if node not in c.controlling]
    c.rng.shuffle(free)
    first, *others = free or [""]
    c.controlling.update(free[:2])
    if others and c.rng.random() < 0.6:
        gm = c.value(2e-6, 8e-6)
        c.add("G", f"{first} 0 {others[0]} 0 {gm}")
        c.add("B", f"0 {others[0]} I={gm}*V({first})")
    elif first:
        a, b = c.pair()
        c.add("G", f"{a} {b} {first} 0 {c.signed(1e-6, 8e-6)}")


def _function(c: _Circuit, smooth: bool = False) -> str:
    x = f"V({c.pick(c.controls)})" if c.rng.random() < 0.8 else f"(2k*I({c.pick(c.earlier)}))"
    return c.pick(SMOOTH if smooth else FUNCTIONS).format(x=x, y=f"V({c.pick(c.controls)})")


def _behavioural(c: _Circuit) -> None:
    kind = c.rng.integers(3)
    if kind == 0:
        c.driven("B", f"V={_function(c, smooth=c.moving)}")
        return
    a, b = c.pair()
    if kind == 1:
        c.add("B", f"{a} {b} I=0.1m*({_function(c)})")
    else:
        across = f"V({a})" if b == "0" else f"V({a},{b})"
        c.add("B", f"{a} {b} I={c.pick(CONDUCTANCES).format(u=across)}")


def _switch(c: _Circuit) -> None:
    """Open in AC and noise analyses: there ngspice 39 takes closed switches for open."""
    a, b = c.pair()
    control = {"op": c.pick(c.controls), "tran": "clock"}.get(c.analysis)
    c.add("S", f"{a} {b} {f'{control} 0' if control else '0 vdd'} gate{c.pick(('', ' off'))}")


def _subcircuit(c: _Circuit) -> None:
    kind = c.rng.integers(4)
    if kind == 0:
        c.add("X", f"{c.pick(c.nodes)} clamp")
    elif kind == 1:
        a = c.pick(c.nodes)
        c.add("X", f"{a} {c.pick(c.nodes, but=a)} divider r={c.value(5e3, 50e3)} k=3")
    elif kind == 2:
        a = c.pick(c.nodes)
        c.add("X", f"{a} {c.pick(c.nodes, but=a)} cascade r={c.value(5e3, 50e3)}")
    else:
        c.add("X", f"{c.pick(c.controls)} {c.pick(c.nodes)} vdd inverter")


ELEMENTS: tuple[Callable[[_Circuit], None], ...] = (
    _resistor, _capacitor, _inductor, _voltage_source, _current_source, _diode, _mosfet, _vcvs, _ccvs,
    _cccs, _vccs, _feedback, _behavioural, _switch, _subcircuit,
)  # fmt: skip


def _block(c: _Circuit, number: int) -> None:
    """Nodes joined by resistors, the first one driven from the block before; then any elements."""
    c.nodes = [f"n{number}_{k}" for k in range(c.rng.integers(2, 6))]
    c.controlling, c.earlier = set(), c.sensed.copy()
    driver = c.controls[-1] if number else "in"
    for k, node in enumerate(c.nodes):
        c.add("R", f"{node} {c.nodes[c.rng.integers(k)] if k else '0'} {c.value(1e3, 100e3)}")
        c.add("R", f"{node} 0 {c.value(5e3, 50e3)}")
        if c.moving:
            c.add("C", f"{node} 0 {c.value(100e-12, 3e-9)}")
    if number:
        c.add("E", f"e{number} 0 {driver} 0 {c.signed(0.3, 1.2)}")
        driver = f"e{number}"
    c.add("R", f"{driver} {c.nodes[0]} {c.value(1e3, 20e3)}")
    for choice in c.rng.integers(len(ELEMENTS), size=c.rng.integers(3, 7 if c.moving else 10)):
        ELEMENTS[choice](c)
    c.controls += c.nodes


def _latch(c: _Circuit) -> None:
    """Two inverters in a ring, in the state that the ``.nodeset`` names, and a load on it.

    Transients start from an ``.ic``: ngspice's gmin stepping forgets a ``.nodeset`` and ends in the middle.
    """
    c.cards += ["Xl1 q qn vdd inverter", "Xl2 qn q vdd inverter", "Cq q 0 50p", "Cqn qn 0 50p"]
    one = c.rng.random() < 0.5
    word = ".ic" if c.moving else ".nodeset"
    c.cards.append(f"{word} v(q)={SUPPLY if one else 0:g} v(qn)={0 if one else SUPPLY:g}")
    c.add("G", f"{c.pick(c.nodes)} 0 q qn 2u")


def _bulks(c: _Circuit) -> list[str]:
    """Sources of the bulks: so far out that none conducts, for small signals.

    Where a bulk junction conducts, ngspice's gmbs is not the derivative of its own current: with a threshold
    that is linear in vbs there, it still divides by ``2 sqrt(phi) - vbs / sqrt(phi)``, not ``2 sqrt(phi)``.
    """
    low, high = (BELOW, ABOVE) if c.analysis in ("ac", "noise") else (0.0, SUPPLY)
    return [f"Vsub sub 0 {low:g}", f"Vwell well 0 {high:g}"]


def _input(c: _Circuit) -> str:
    dc = f"{c.rng.uniform(0.5, 3.0):.4f}"
    return c.waveform() if c.moving else f"dc {dc}" + (" ac 1" if c.analysis in ("ac", "noise") else "")


def circuit(seed: int, analysis: str, *, ekv: bool = False) -> str:
    """Random circuit ``seed`` as SPICE text with its ``analysis``: "op", "tran", "ac" or "noise".

    With ``ekv``, there are EKV transistors in it too.
    """
    c = _Circuit(seed, analysis, ekv)
    c.cards += [
        f"* generated circuit {seed} for .{analysis}",
        f".param rail={SUPPLY:g} base={c.value(2e3, 20e3)}",
        "Vdd vdd 0 {rail}",
        f"Vin in 0 {_input(c)}",
        *_bulks(c),
    ]
    if c.rng.random() < 0.3:
        c.cards.append(f".temp {c.rng.integers(-20, 80)}")
    if c.moving:
        c.cards.append(CLOCK)
    for number in range(c.rng.integers(1, 3 if c.moving else 4)):
        _block(c, number)
    if c.rng.random() < 0.15:
        _latch(c)
    output = c.nodes[0]
    c.cards += MODELS.splitlines()
    c.cards.append(
        {
            "op": ".op",
            "tran": f".tran {DURATION / 100:g} {DURATION:g}",
            "ac": ".ac dec 3 100 100meg",
            "noise": f".noise v({output}) Vin dec 2 100 100meg 1",
        }[analysis]
    )
    return "\n".join([*c.cards, ".end", ""])
