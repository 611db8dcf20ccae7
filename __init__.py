"""ohmostat: design an analog chip that learns, break it the way silicon breaks it, and repair it.

Every public name is imported on first use (PEP 562), so that ``import ohmostat`` costs milliseconds
and sets nothing: no thread count, no plotting backend, no compiled code.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Chip",
    "Circuit",
    "Design",
    "Homeostat",
    "Netlist",
    "Trainer",
    "__version__",
    "load_chip",
    "load_data",
    "load_design",
    "operating_point",
    "read_spice",
    "transient",
]

if TYPE_CHECKING:  # for type checkers, which would take a module's __getattr__ to have every name
    from .circuits.archive import load_chip
    from .circuits.chip import Chip
    from .circuits.circuit import Circuit
    from .circuits.design import Design, load_design
    from .learning.data import load as load_data
    from .learning.homeostat import Homeostat
    from .learning.training import Trainer
    from .simulator.netlist import Netlist
    from .simulator.operating_point import operating_point
    from .simulator.spice_reader import read_spice
    from .simulator.transient import transient
else:
    _HOMES = {
        "Chip": (".circuits.chip", "Chip"),
        "Circuit": (".circuits.circuit", "Circuit"),
        "Design": (".circuits.design", "Design"),
        "Homeostat": (".learning.homeostat", "Homeostat"),
        "Netlist": (".simulator.netlist", "Netlist"),
        "Trainer": (".learning.training", "Trainer"),
        "load_chip": (".circuits.archive", "load_chip"),
        "load_data": (".learning.data", "load"),
        "load_design": (".circuits.design", "load_design"),
        "operating_point": (".simulator.operating_point", "operating_point"),
        "read_spice": (".simulator.spice_reader", "read_spice"),
        "transient": (".simulator.transient", "transient"),
    }

    def __getattr__(name):
        """Import a public name from its home; later uses find it here at once."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = _HOMES[name]
        value = getattr(import_module(module, __name__), attribute)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
