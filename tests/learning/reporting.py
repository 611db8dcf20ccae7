"""Common ground of the tests of reports: pages taken apart, and sweep files that are made up."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ohmostat.circuits.design import Design
from ohmostat.learning.report_chip import LEVELS
from ohmostat.learning.sweep import SCHEMA, SCHEMA_VERSION, RunKey
from ohmostat.learning.training import Epoch

SMALL = {"learning.epochs": 2, "task.train": 200, "task.test": 100}
SIGMA = "mismatch.conductance"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def flags(**changes: object) -> list[str]:
    return [word for key, value in (SMALL | changes).items() for word in ("--set", f"{key}={value}")]


class Page(HTMLParser):
    """A page's elements, its text outside scripts and styles, and the data of its drawings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words, self.data, self.open = "", [], ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = "json" if dict(attrs).get("type") == "application/json" else tag

    def handle_endtag(self, tag: str) -> None:
        self.open = ""
        self.words += "\n"

    def handle_data(self, data: str) -> None:
        if self.open == "json":
            self.data.append(json.loads(data))
        elif self.open not in ("script", "style"):
            self.words += data

    def panel(self, *at: str) -> dict[str, Any]:
        """The only panel of any chart that is shown at these choices, its values in SI units."""
        found: dict[str, Any]
        (found,) = [p for d in self.data for p in d.get("panels", ()) if p["at"] == list(at)]
        across, up = (si(found[name]) for name in "xy")
        series = [
            one | {k: [v if v is None else v * f for v in one[k]] for k, f in zip(
                ("x", "y", "low", "high"), (across, up, up, up), strict=True) if k in one}
            for one in found["series"]
        ]  # fmt: skip
        return found | {"series": series}


def si(axis: str) -> float:
    """What a value on an axis is to be multiplied by, of whose name the unit's prefix is a part."""
    form = re.search(r"\[([afpnµmkMG])[A-Z/s]", axis)
    return (
        {"a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}[
            form[1]
        ]
        if form
        else 1.0
    )


def page_of(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def made_up(
    path: Path, where: Any, chips: int, design: Design, epochs: int = 2, arms: Any = ("none",)
) -> Path:
    """A sweep file of histories that are made up."""
    random = np.random.default_rng(0)
    names = [f.name for f in Epoch.__dataclass_fields__.values() if f.type == "float"]
    names += [f"{part}/{array}" for part in ("alignment", "measured", "response", "angle") for array in
              ("forward0", "forward1", "forward2", "feedback1", "feedback2", "bias0")]  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs.update(
            schema=SCHEMA, schema_version=SCHEMA_VERSION, ohmostat_version="0.1.0", design=design.to_toml(),
            chips=chips, arms=list(arms),
        )  # fmt: skip
        file["points"] = json.dumps(where)
        for arm in arms:
            for point in where:
                for chip in range(chips):
                    history = file.create_group(f"runs/{RunKey(arm, point, chip).name}/history")
                    for name in names:
                        history[name] = random.random(epochs + 1)
    return path


def decoded(found: Mapping[str, Any]) -> np.ndarray:
    """What a map's codes stand for, as docs/report.md says; NaN for code 0."""
    codes = np.frombuffer(base64.b64decode(found["codes"]), np.uint8).reshape(found["shape"]).astype(float)
    share = np.where(codes > 0, (codes - 1) / LEVELS, np.nan)
    low, high = found["low"], found["high"]
    value: np.ndarray = low * (high / low) ** share if found["log"] else low + share * (high - low)
    return value
