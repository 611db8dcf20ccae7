"""A circuit as named nodes and banks of devices sorted by law.

    net = Netlist("divider")
    net.voltage_source("V1", "in", "0", 1.0)
    net.resistor("R1", "in", "out", conductance=1e-6)
    net.resistor("R2", "out", "0", conductance=3e-6)

Node ``"0"`` is ground. Currents count from a device's first node, through it, into its second (SPICE's
sign). Names of nodes and devices are any non-empty strings, and case matters. A call that is refused
leaves the netlist as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from . import connectivity
from . import semiconductors as semi
from . import temperature as heat
from .banks import GROUND, Addition, Bank, Columns, Controls, Names, NetlistError, addition, some
from .devices import AMPLIFIER_LAWS, DEVICES, TIME, Control, Current, Expression
from .waveforms import Waveform

__all__ = ["GROUND", "TIME", "Bank", "Control", "Current", "Netlist", "NetlistError"]


class Netlist:
    """Nodes and banks of devices; grows by the methods below, each of which checks what it is given.

    ``gmin`` [S] is the conductance across each junction, ``temperature`` [K] that of every device; both are
    what the junctions added later take.
    """

    def __init__(
        self, title: str = "untitled", *, gmin: float = 1e-12, temperature: float = semi.NOMINAL_TEMPERATURE
    ) -> None:
        self.title, self.gmin, self.temperature = title, gmin, temperature
        self._nodes: dict[str, int] = {GROUND: 0}
        self._kinds: dict[str, str] = {}  # of every device, by name
        self._columns: dict[tuple[str, int], Columns] = {}  # by kind and identity of the expression
        self._banks: tuple[Bank, ...] | None = None

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes other than ground, in order of first use."""
        return tuple(self._nodes)[1:]

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the voltage-defined devices, whose currents are unknowns."""
        return tuple(name for bank in self.banks if bank.branches is not None for name in bank.names)

    @property
    def banks(self) -> tuple[Bank, ...]:
        """The devices so far, sorted by kind, as arrays that no later call changes."""
        if self._banks is None:
            self._banks = self._frozen()
        return self._banks

    def _frozen(self) -> tuple[Bank, ...]:
        defined = [c for c in self._columns.values() if DEVICES[c.kind].voltage_defined]
        names = [name for columns in defined for name in columns.names]
        branches = {name: len(self._nodes) + k for k, name in enumerate(names)}
        time = len(self._nodes) + len(branches)
        return tuple(columns.freeze(branches, time) for columns in self._columns.values())

    def __len__(self) -> int:
        """Number of devices."""
        return len(self._kinds)

    def kind(self, device: str) -> str | None:
        """Kind of the device of that name, or None."""
        return self._kinds.get(device)

    # -- linear elements and sources -------------------------------------------------------------------

    def resistor(self, name: str, a: str, b: str, *, conductance: float) -> None:
        """``i = g (v_a - v_b)``, conductance g [S] at least 0."""
        self.bank("resistor", [name], a, b, conductance=conductance)

    def capacitor(self, name: str, a: str, b: str, capacitance: float) -> None:
        """``i = C d(v_a - v_b)/dt``, capacitance C [F] at least 0: open at an operating point."""
        self.bank("capacitor", [name], a, b, capacitance=capacitance)

    def inductor(self, name: str, a: str, b: str, inductance: float) -> None:
        """``v_a - v_b = L di/dt``, inductance L [H] at least 0: a short at an operating point."""
        self.bank("inductor", [name], a, b, [Current(name)], inductance=inductance)

    def voltage_source(
        self, name: str, a: str, b: str, voltage: float | None = None, *, waveform: Waveform | None = None,
        ac: complex = 0.0,
    ) -> None:  # fmt: skip
        """``v_a - v_b = voltage`` [V] at an operating point, ``waveform`` in time; ``ac`` [V] small signal.

        Without a ``voltage``, that of the waveform at time 0, or 0 V.
        """
        dc = _at_rest(voltage, waveform)
        self._add(
            addition("voltage_source", [name], a, b, parameters={"voltage": dc}, waveform=waveform, ac=ac)
        )

    def current_source(
        self, name: str, a: str, b: str, current: float | None = None, *, waveform: Waveform | None = None,
        ac: complex = 0.0,
    ) -> None:  # fmt: skip
        """``current`` [A] from a through the source into b; otherwise as :meth:`voltage_source`."""
        dc = _at_rest(current, waveform)
        self._add(
            addition("current_source", [name], a, b, parameters={"current": dc}, waveform=waveform, ac=ac)
        )

    def vccs(self, name: str, a: str, b: str, cp: str, cn: str, transconductance: float) -> None:
        """``i = gm (v_cp - v_cn)`` from a through the source into b, gm [S] of either sign."""
        self.bank("vccs", [name], a, b, (cp, cn), transconductance=transconductance)

    def vcvs(self, name: str, a: str, b: str, cp: str, cn: str, gain: float) -> None:
        """``v_a - v_b = gain (v_cp - v_cn)``."""
        self.bank("vcvs", [name], a, b, (cp, cn), gain=gain)

    def cccs(self, name: str, a: str, b: str, control: Current, gain: float) -> None:
        """``i = gain i_control`` from a through the source into b."""
        self.bank("cccs", [name], a, b, [control], gain=gain)

    def ccvs(self, name: str, a: str, b: str, control: Current, transresistance: float) -> None:
        """``v_a - v_b = r i_control``, transresistance r [ohm] of either sign."""
        self.bank("ccvs", [name], a, b, [control], transresistance=transresistance)

    # -- nonlinear elements ----------------------------------------------------------------------------

    def amplifier(
        self, name: str, out: str, input: str, *, law: str, low: float, high: float, gain: float,
        offset: float, knee: float = 0.05,
    ) -> None:  # fmt: skip
        """``v_out = f(v_input)``, an ideal voltage output against ground.

        ``law`` is ``logistic``, ``tanh`` or ``softplus``: see :mod:`ohmostat.simulator.neurons` for
        the curves and their rails low < high [V], gain > 0 [V/V], offset [V] and knee [V].
        """
        if law not in AMPLIFIER_LAWS:
            raise NetlistError(f"{name}: unknown law {law!r}; use one of {', '.join(AMPLIFIER_LAWS)}")
        self.bank(
            law, [name], out, GROUND, (input, GROUND),
            low=low, high=high, gain=gain, offset=offset, knee=knee,
        )  # fmt: skip

    def diode(
        self, name: str, anode: str, cathode: str, *, is_: float = 1e-14, n: float = 1.0, rs: float = 0.0,
        cjo: float = 0.0, vj: float = 1.0, m: float = 0.5, fc: float = 0.5, tt: float = 0.0,
        bv: float = np.inf, ibv: float = 1e-3, nbv: float | None = None, eg: float = 1.11,
        xti: float = 3.0, tnom: float = semi.NOMINAL_TEMPERATURE, gmin: float | None = None,
    ) -> None:  # fmt: skip
        """SPICE's diode, parameters as on a model card (:func:`~ohmostat.simulator.semiconductors.diode`).

        A series resistance ``rs`` [ohm] becomes a resistor ``name#rs`` from the anode to a node
        ``name#internal``. ``gmin`` [S] across the junction is the netlist's unless given; ``tnom`` [K] is
        where the parameters were measured.
        """
        m, nbv = min(m, semi.MAX_GRADING), n if nbv is None else nbv
        _positive(name, is_=is_, n=n, vj=vj, bv=bv, ibv=ibv, nbv=nbv, tnom=tnom)
        _check_fc(name, fc)
        hot, start = self.temperature, f"{name}#internal" if rs else anode
        is_hot = heat.diode_saturation(is_, n, eg, xti, hot, tnom)
        values = {
            "is_": is_hot, "n": n, "temperature": hot, "gmin": self.gmin if gmin is None else gmin,
            "cjo": heat.capacitance(cjo, vj, m, hot, tnom), "vj": heat.potential(vj, hot, tnom), "m": m,
            "fc": fc, "tt": tt, "nbv": nbv,
            "bv": semi.breakdown_voltage(bv, ibv, is_hot, nbv, float(semi.thermal_voltage(hot))),
        }  # fmt: skip
        junction = addition("diode", [name], start, cathode, parameters=values)
        self._add(junction, *_series(name, ("rs", anode, start, rs)))

    def mosfet(
        self, name: str, drain: str, gate: str, source: str, bulk: str, *, polarity: int = 1,
        vto: float = 0.0, kp: float = 2e-5, gamma: float = 0.0, phi: float = 0.6, lambda_: float = 0.0,
        w: float = 1e-4, l: float = 1e-4, rd: float = 0.0, rs: float = 0.0, cgs: float = 0.0,  # noqa: E741
        cgd: float = 0.0, cgb: float = 0.0, tnom: float = semi.NOMINAL_TEMPERATURE, **bulk_diodes: float,
    ) -> None:  # fmt: skip
        """SPICE's level 1 MOSFET, parameters as on a model card; ``l`` is the effective length [m].

        ``polarity`` is 1 (n channel) or -1 (p channel). It comes with its bulk diodes ``name#bd`` and
        ``name#bs``, of ``bulk_diodes`` is_ [A], cbd, cbs [F], pb [V], mj, fc and gmin [S]; gate capacitances
        ``cgs``, ``cgd``, ``cgb`` [F] (``name#cgs`` ...) and series resistances ``rd``, ``rs`` [ohm]
        (``name#rd``, to a node ``name#drain``; ``name#rs``) are devices of their own. ``tnom`` [K] is where
        the parameters were measured.
        """
        _check_polarity(name, polarity)
        _positive(name, phi=phi, tnom=tnom)
        d, s = f"{name}#drain" if rd else drain, f"{name}#source" if rs else source
        values = {
            "polarity": polarity, "vto": heat.threshold(vto, gamma, phi, polarity, self.temperature, tnom),
            "kp": heat.transconductance(kp, self.temperature, tnom), "gamma": gamma,
            "phi": heat.potential(phi, self.temperature, tnom), "lambda_": lambda_, "w": w, "l": l,
        }  # fmt: skip
        channel = addition("mosfet", [name], d, s, (gate, s), (bulk, s), parameters=values)
        junctions = self._bulk_diodes(name, bulk, (d, s), polarity, tnom, **bulk_diodes)
        overlaps = [
            addition("capacitor", [f"{name}#{tag}"], gate, end, parameters={"capacitance": capacitance})
            for tag, end, capacitance in (("cgs", s, cgs), ("cgd", d, cgd), ("cgb", bulk, cgb))
            if capacitance
        ]
        contacts = _series(name, ("rd", drain, d, rd), ("rs", source, s, rs))
        self._add(channel, *junctions, *contacts, *overlaps)

    def _bulk_diodes(
        self, name: str, bulk: str, ends: tuple[str, str], polarity: int, tnom: float, *,
        is_: float = 1e-14, cbd: float = 0.0, cbs: float = 0.0, pb: float = 0.8, mj: float = 0.5,
        fc: float = 0.5, gmin: float | None = None,
    ) -> list[Addition]:  # fmt: skip
        _positive(name, pb=pb)
        _check_fc(name, fc)
        hot, m = self.temperature, min(mj, semi.MAX_GRADING)
        common = {
            "temperature": hot, "m": m, "fc": fc, "is_": heat.bulk_saturation(is_, hot, tnom),
            "gmin": self.gmin if gmin is None else gmin, "vj": heat.potential(pb, hot, tnom),
        }  # fmt: skip
        junctions = []
        for tag, end, c in zip(("bd", "bs"), ends, (cbd, cbs), strict=True):
            a, b = (bulk, end) if polarity > 0 else (end, bulk)
            values = {**common, "cjo": heat.capacitance(c, pb, m, hot, tnom)}
            junctions.append(addition("bulk_diode", [f"{name}#{tag}"], a, b, parameters=values))
        return junctions

    def ekv(
        self, name: str, drain: str, gate: str, source: str, bulk: str, *, polarity: int = 1,
        vto: float = 0.5, kp: float = 5e-5, gamma: float = 1.0, phi: float = 0.7, lambda_: float = 0.0,
        w: float = 1e-4, l: float = 1e-4,  # noqa: E741
    ) -> None:  # fmt: skip
        """The EKV MOSFET, all regions (:func:`~ohmostat.simulator.semiconductors.ekv`): the channel alone."""
        _check_polarity(name, polarity)
        self.bank(
            "ekv", [name], drain, source, (gate, bulk), (source, bulk), polarity=polarity, vto=vto, kp=kp,
            gamma=gamma, phi=phi, lambda_=lambda_, w=w, l=l, temperature=self.temperature,
        )  # fmt: skip

    def switch(
        self, name: str, a: str, b: str, cp: str, cn: str, *, vt: float = 0.0, vh: float = 0.0,
        ron: float = 1.0, roff: float = 1e12,
    ) -> None:  # fmt: skip
        """SPICE's switch: ``ron`` [ohm] from a to b while v_cp - v_cn > vt [V], otherwise ``roff``."""
        if vh != 0.0:
            raise NetlistError(
                f"{name}: hysteresis vh is {vh:g} V; only 0 V is supported: build hysteresis from feedback"
            )
        self.bank("switch", [name], a, b, (cp, cn), vt=vt, ron=ron, roff=roff)

    def behavioural(
        self, name: str, a: str, b: str, expression: Expression, *, voltage: bool,
        controls: Sequence[Control] | None = None, scale: float = 1.0,
    ) -> None:  # fmt: skip
        """``v_a - v_b``, or the current from a into b, as ``scale`` times an expression of its controls.

        ``controls`` replace the expression's own ``ports``, in the same order (instances of one subcircuit
        share the expression, and so the bank).
        """
        ports = expression.ports if controls is None else controls
        if len(ports) != len(expression.ports):
            raise NetlistError(f"{name}: {len(ports)} controls for an expression of {len(expression.ports)}")
        kind = "behavioural_voltage" if voltage else "behavioural_current"
        self.bank(kind, [name], a, b, *ports, expression=expression, scale=scale)

    # -- many at once ----------------------------------------------------------------------------------

    def bank(
        self, kind: str, names: Sequence[str], a: Names, b: Names, *controls: Controls,
        expression: Expression | None = None, **parameters: ArrayLike,
    ) -> None:  # fmt: skip
        """Add many devices of one kind at once: all of them, or none and an error.

        Nodes ``a``, ``b`` and those of each control pair are one name for all devices or a sequence (k,); a
        control may also be :class:`Current` or ``TIME``. Parameters, those of the methods above, are one
        value or an array (k,).
        """
        self._add(addition(kind, names, a, b, *controls, parameters=parameters, expression=expression))

    def _add(self, *additions: Addition) -> None:
        """All of them, or none and an error."""
        for new in additions:
            self._check_names(new.names, new.ends)
        for new in additions:
            if new.names:
                columns = self._columns.setdefault(new.key, Columns(new.kind, new.expression))
                columns.extend(new, self._nodes)
                self._kinds.update(dict.fromkeys(new.names, new.kind))
        self._banks = None

    def checked_voltages(self, voltages: Mapping[str, float]) -> dict[str, float]:
        """Starting voltages [V] by node, without ground's; an error if a node or a value cannot be."""
        for node, volts in voltages.items():
            if node not in self._nodes:
                raise NetlistError(f"initial voltages: netlist {self.title!r} has no node {node!r}")
            if not np.isfinite(volts):
                raise NetlistError(f"initial voltages: node {node!r} at {volts} V; give a finite value")
        return {node: float(volts) for node, volts in voltages.items() if node != GROUND}

    def validate(self) -> None:
        """Raise a :class:`NetlistError` for circuits without an operating point, naming the culprits."""
        if len(self._nodes) == 1:
            raise NetlistError(f"netlist {self.title!r} has no node besides ground: add devices")
        if loop := connectivity.voltage_loop(self.banks, len(self._nodes)):
            raise NetlistError(
                f"voltages are fixed all around a loop by {some(loop)}, which leaves its current "
                "undetermined: remove one or put a resistor in the loop (an inductor is a short)"
            )
        floating = connectivity.floating_nodes(self.banks, len(self._nodes))
        if floating.size:
            names = tuple(self._nodes)
            raise NetlistError(
                f"floating: no DC path to ground from {some([names[k] for k in floating], 'node')}: "
                "add a resistor or a source (capacitors and current sources are no path)"
            )

    def _check_names(self, names: Sequence[object], ends: Sequence[Sequence[object]]) -> None:
        seen: set[str] = set()
        for name in names:
            if not isinstance(name, str) or not name:
                raise NetlistError(f"device name {name!r}: a name is a non-empty string")
            if name in self._kinds or name in seen:
                kind = self._kinds.get(name, "device of the same call")
                raise NetlistError(f"device {name!r} exists already ({kind}); give each its own name")
            seen.add(name)
        for nodes in ends:
            for name, node in zip(names, nodes, strict=True):
                if not isinstance(node, str) or not node:
                    raise NetlistError(f"{name}: node {node!r}: a name is a non-empty string")


def _at_rest(value: float | None, waveform: Waveform | None) -> float:
    """A source's value at an operating point."""
    if value is not None:
        return value
    return 0.0 if waveform is None else waveform.value(0.0)


def _check_polarity(name: str, polarity: int) -> None:
    if polarity not in (1, -1):
        raise NetlistError(f"{name}: polarity is {polarity}; give 1 (n channel) or -1 (p channel)")


def _check_fc(name: str, fc: float) -> None:
    """``fc vj`` [V] is where a junction's charge turns straight, before ``vj``, where it is singular."""
    if not 0.0 <= fc < 1.0:
        raise NetlistError(f"{name}: fc is {fc:g}; give a value of at least 0 and below 1")


def _positive(name: str, **values: float) -> None:
    """For parameters that others are computed from, before these are checked."""
    for parameter, value in values.items():
        if not value > 0.0:
            raise NetlistError(f"{name}: {parameter} is {value:g}; give a value above 0")


def _series(name: str, *resistances: tuple[str, str, str, float]) -> list[Addition]:
    """Resistors ``name#tag`` for those of (tag, from, to, ohms) that are not zero."""
    return [
        addition("resistor", [f"{name}#{tag}"], a, b, parameters={"conductance": 1.0 / ohms})
        for tag, a, b, ohms in resistances
        if ohms
    ]
