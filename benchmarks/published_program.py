"""The published exact derivative, in plain NumPy: how far does its response run, and what does it learn?

The network of Laborieux and Zenke (ICLR 2024) as equations, none of ohmostat's circuits or solvers: weights
drawn with standard deviation 1/√fan-in, s = σ(W s + b) with σ(u) = 1/(1+e^(2-4u)), a 10→10 softmax readout,
Fashion-MNIST, batch 50, SGD 0.01 with momentum 0.9 (or Adam 1e-4), feedback turned by α from the transpose
and never tied. The free phase takes at most 150 sweeps, by even and odd layers, and goes on from wherever it
then is. Their program carries the derivative ds/dβ through 20 steps of the nudged phase, from zero, and calls
that exact; `--response-steps` is that number.

    python benchmarks/published_program.py [--response-steps 20] [--epochs 50] [--angle 0] [--adam]

Prints a line an epoch: loss, test error, batches that had not settled, and the first layer's cosine to the
adjoint (run through as many steps): of the batch's gradient, and of the response, sample by sample.
"""

from __future__ import annotations

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ohmostat.learning.data import load

Array = NDArray[Any]
F = np.float32
BATCH, SWEEPS, TOLERANCE, SAMPLES = 50, 150, 1e-4, 500


def activation(u: Array) -> Array:
    s: Array = 1 / (1 + np.exp(2 - 4 * u))
    return s


@dataclass
class Network:
    """Weights by name: W1, W2, W3 forward, B1, B2 back, b1, b2, b3 biases, R, r the readout."""

    w: dict[str, Array]
    response_steps: int

    @classmethod
    def random(cls, rng: np.random.Generator, angle: float, response_steps: int) -> Network:
        def spread(fan_in: int, width: int) -> Array:
            return (rng.standard_normal((fan_in, width)) / np.sqrt(fan_in)).astype(F)

        w = {"W1": spread(784, 256), "W2": spread(256, 256), "W3": spread(256, 10), "R": spread(10, 10)}
        for back, forward in (("B1", "W2"), ("B2", "W3")):
            turned = w[forward].T
            w[back] = (np.cos(angle) * turned + np.sin(angle) * spread(*turned.shape)).astype(F)
        w |= {"b1": np.zeros(256, F), "b2": np.zeros(256, F), "b3": np.zeros(10, F), "r": np.zeros(10, F)}
        return cls(w, response_steps)

    def free(self, x: Array) -> tuple[list[Array], bool]:
        """Ports of the three layers, and whether a last sweep moved none of them further than it may."""
        w, driven = self.w, x @ self.w["W1"] + self.w["b1"]
        start = activation(np.zeros(1, F))[0]
        s1, s2 = (np.full((len(x), 256), start) for _ in range(2))
        for _ in range(SWEEPS):
            n1, s3 = activation(driven + s2 @ w["B1"]), activation(s2 @ w["W3"] + w["b3"])
            n2 = activation(n1 @ w["W2"] + s3 @ w["B2"] + w["b2"])
            moved = max(abs(n1 - s1).max(), abs(n2 - s2).max())
            s1, s2 = n1, n2
            if moved < TOLERANCE:
                break
        return [s1, s2, s3], bool(moved < TOLERANCE)

    def probabilities(self, outputs: Array) -> Array:
        logits = outputs @ self.w["R"] + self.w["r"]
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        p: Array = e / e.sum(axis=1, keepdims=True)
        return p

    def response(self, s: list[Array], push: Array, adjoint: bool = False) -> list[Array]:
        """``ds/dβ`` through a number of steps from zero; the adjoint's turns every weight round."""
        w, slope = self.w, [4 * a * (1 - a) for a in s]
        down1, up2, up3, down2 = w["B1"], w["W2"], w["W3"], w["B2"]
        if adjoint:
            down1, up2, up3, down2 = w["W2"].T, w["B1"].T, w["B2"].T, w["W3"].T
        e1, e2, e3 = (np.zeros_like(a) for a in s)
        for _ in range(self.response_steps):
            e1, e3 = slope[0] * (e2 @ down1), slope[2] * (e2 @ up3 + push)
            e2 = slope[1] * (e1 @ up2 + e3 @ down2)
        return [e1, e2, e3]

    def gradient(self, x: Array, s: list[Array], e: list[Array], error: Array) -> dict[str, Array]:
        """Mean over the batch."""
        pre_post = {"W1": (x, e[0]), "W2": (s[0], e[1]), "W3": (s[1], e[2]), "B1": (s[1], e[0]),
                    "B2": (s[2], e[1]), "R": (s[2], error)}  # fmt: skip
        biases = {"b1": e[0], "b2": e[1], "b3": e[2], "r": error}
        found = {name: pre.T @ post for name, (pre, post) in pre_post.items()}
        found |= {name: post.sum(axis=0) for name, post in biases.items()}
        return {name: value / len(x) for name, value in found.items()}

    def alignment(self, x: Array, y: Array) -> tuple[float, float]:
        """First-layer cosine to the adjoint: of the gradient, and of the response (mean over samples)."""
        s, _ = self.free(x)
        push = (self.probabilities(s[2]) - y) @ self.w["R"].T
        ep, true = (self.response(s, push, adjoint)[0] for adjoint in (False, True))
        rows = (ep * true).sum(axis=1) / (np.linalg.norm(ep, axis=1) * np.linalg.norm(true, axis=1))
        a, b = x.T @ ep, x.T @ true
        return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))), float(np.nanmean(rows))


@dataclass
class Descent:
    """SGD 0.01 with momentum 0.9, or Adam 1e-4."""

    adam: bool
    m: dict[str, Array]
    v: dict[str, Array]
    steps: int = 0

    def step(self, w: dict[str, Array], gradient: dict[str, Array]) -> None:
        self.steps += 1
        for name, g in gradient.items():
            m, v = self.m[name], self.v[name]
            if self.adam:
                m += F(0.1) * (g - m)
                v += F(0.001) * (g * g - v)
                size = np.sqrt(v / F(1 - 0.999**self.steps)) + F(1e-8)
                w[name] -= F(1e-4 / (1 - 0.9**self.steps)) * m / size
            else:
                m *= F(0.9)
                m += g
                w[name] -= F(0.01) * m


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--response-steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--angle", type=float, default=0.0, help="degrees")
    parser.add_argument("--adam", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    data = load("fashion-mnist", arguments.data_dir)
    images, tests = (x.reshape(len(x), -1).astype(F) for x in (data.train_x, data.test_x))
    labels, truth = np.eye(10, dtype=F)[data.train_y], np.eye(10, dtype=F)[data.test_y[:SAMPLES]]
    rng = np.random.default_rng(arguments.seed)
    network = Network.random(rng, np.radians(arguments.angle), arguments.response_steps)
    zeros = [{name: np.zeros_like(value) for name, value in network.w.items()} for _ in range(2)]
    descent = Descent(arguments.adam, *zeros)
    for epoch in range(1, arguments.epochs + 1):
        order, loss, unsettled = rng.permutation(len(images)), [], 0
        for first in range(0, len(images), BATCH):
            rows = order[first : first + BATCH]
            x, y = images[rows], labels[rows]
            s, settled = network.free(x)
            p = network.probabilities(s[2])
            response = network.response(s, (p - y) @ network.w["R"].T)
            descent.step(network.w, network.gradient(x, s, response, p - y))
            loss.append(-np.log(np.maximum(p[y > 0], 1e-30)).mean())
            unsettled += not settled
        right = sum(
            np.sum(network.probabilities(network.free(tests[k : k + 500])[0][2]).argmax(axis=1)
                   == data.test_y[k : k + 500]) for k in range(0, len(tests), 500)
        )  # fmt: skip
        gradient, response_cosine = network.alignment(tests[:SAMPLES], truth)
        error = 100 - 100 * right / len(tests)
        print(
            f"epoch {epoch:2d}  loss {np.mean(loss):.4f}  test error {error:5.2f} %  batches not settled "
            f"{unsettled}  cosine of the gradient {gradient:.3f}, of the response {response_cosine:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
