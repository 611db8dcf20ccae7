"""What contradicts something else in a design is told with all its other faults."""

from __future__ import annotations

import re

import pytest

from ohmostat.circuits.design import Design
from ohmostat.circuits.sections import DesignError


def test_contradictions_are_told_beside_faults_of_other_sections() -> None:
    """With a leak that is none: what the chip and the task, which are sound, contradict."""
    text = '[chip]\nlayers = [64, 20, 10]\n[neuron]\nleak = "1V"\n[homeostat]\nmode = "trim"\n'
    with pytest.raises(DesignError) as caught:
        Design.from_text(text, "a.toml")
    layers, leak, mode = str(caught.value).split("\n")
    assert layers.startswith("a.toml:2: chip.layers = [64, 20, 10]: its first layer has 64 inputs, but task.")
    assert leak.startswith("a.toml:4: neuron.leak") and mode.startswith("a.toml:6: homeostat.mode")
    with pytest.raises(DesignError, match=r'neuron\.leek: unknown.*\nhomeostat.mode = "trim": the twin'):
        Design().replace({"neuron.leek": 1, "homeostat.mode": "trim"})
    for unsound in ("[task]\ndat = 'digits'\n", "[tsk]\ndata = 'digits'\n", "task = 5\n"):
        with pytest.raises(DesignError) as caught:  # what the layers are to fit is not known
            Design.from_text((text if unsound[0] == "[" else "") + unsound)
        assert "first layer" not in str(caught.value)
    with pytest.raises(DesignError) as caught:
        Design().replace({"neuron": 5, "neurons.leak": 1, "learning.rate": -1.0})
    assert "first layer" not in str(caught.value)


@pytest.mark.parametrize("family", ["twin", "loop", "relay"])
def test_trimming_needs_drivers(family: str) -> None:
    with pytest.raises(DesignError, match=f'"trim": the {family} family has no read drivers'):
        Design.from_dict({"chip": {"family": family}, "homeostat": {"mode": "trim"}})
    Design.from_dict({"chip": {"family": "shared"}, "homeostat": {"mode": "trim"}})


def test_what_was_not_written_is_called_the_default() -> None:
    text = '[chip]\nfamily = "resistive"\nlayers = [64, 20, 10]\n[task]\ndata = "digits"\n'
    columns = 'chip.columns = "virtual-ground" (the default): conductances'
    mode = 'homeostat.mode = "probe" (the default): a conductance'
    with pytest.raises(DesignError) as caught:
        Design.from_text(text, "a.toml")
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"a.toml:2: {columns}") and second.startswith(f"a.toml:2: {mode}")
    with pytest.raises(DesignError, match=re.escape(mode)):
        Design.named("digits").replace({"chip.family": "resistive"})
    with pytest.raises(DesignError, match=r'homeostat.mode = "probe": a'):
        Design.from_text(text + '[homeostat]\nmode = "probe"\n')
