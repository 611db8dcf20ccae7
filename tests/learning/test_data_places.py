"""Where data sets are looked for, and what is said of one that is nowhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pooch
import pytest

from ohmostat.learning.data import FILES, NAMES, load
from ohmostat.learning.dataset import DataError

from .test_data import isolated, message, small_files, write_set

RETRIEVE = pooch.retrieve
__all__ = ["isolated"]  # no data of this machine, and no network


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place holds another number of samples; they are removed one by one."""
    env = tmp_path / "env"
    monkeypatch.setenv("OHMOSTAT_DATA", str(env))
    places = [
        env / "fashion-mnist",
        env,
        tmp_path / "debian",
        tmp_path / "cache" / "ohmostat" / "fashion-mnist",
    ]
    for n, place in enumerate(places, start=11):
        write_set(place, small_files(train=n))
    for n, place in enumerate(places, start=11):
        d = load("fashion-mnist")
        assert len(d.train_y) == n and d.source.endswith(str(place))
        for file in FILES:
            (place / file).unlink()
    with pytest.raises(DataError):
        load("fashion-mnist")


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_a_folder_that_is_asked_for_is_the_only_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, asked = tmp_path / "env", tmp_path / "dir"
    monkeypatch.setenv("OHMOSTAT_DATA", str(elsewhere))
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: pytest.fail("it went to the network"))
    for place in (elsewhere, tmp_path / "debian", tmp_path / "cache" / "ohmostat" / name):
        write_set(place)
    asked.mkdir()
    with pytest.raises(DataError) as e:
        load(name, asked)
    message(e, f"no file in {asked / name} or {asked};", *FILES, "Correct the path, or leave it out")
    for n, place in enumerate((asked, asked / name), start=11):
        write_set(place, small_files(train=n))
        assert len(load(name, asked).train_y) == n
    load("digits", elsewhere)  # embedded


def test_the_debian_package_has_no_mnist(tmp_path: Path) -> None:
    write_set(tmp_path / "debian")
    assert len(load("fashion-mnist").train_y) == 20
    with pytest.raises(DataError):
        load("mnist")


def test_an_incomplete_folder_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / FILES[3]).unlink()
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path)
    message(e, str(tmp_path), f"no {FILES[3]}", "Add what is missing")


def test_a_missing_set_says_where_it_was_sought_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OHMOSTAT_DATA", str(tmp_path / "env"))
    with pytest.raises(DataError) as e:
        load("fashion-mnist")
    text = message(e, "no network in tests", "data_dir (--data-dir) or OHMOSTAT_DATA", *FILES)
    for place in ("env/fashion-mnist", "env", "debian", "cache/ohmostat/fashion-mnist"):
        assert str(tmp_path / place) in text
    assert "fashion-6k, digits" in text
    assert text.count("https://") == 2  # every mirror that was tried


def test_why_nothing_is_downloaded_is_told_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_host(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(pooch, "retrieve", RETRIEVE)
    monkeypatch.setattr(socket, "getaddrinfo", no_host)
    with pytest.raises(DataError) as e:
        load("mnist")
    causes = [line for line in str(e.value).splitlines() if "https://" in line]
    assert len(causes) == 2 and all(line.endswith(".gz: no such host, or no network") for line in causes)
    assert "Error" not in str(e.value) and max(map(len, causes)) < 150


def test_wrong_arguments_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError) as e:
        load("fashion")
    message(e, "'fashion'", *NAMES)
    with pytest.raises(DataError) as e:
        load("mnist", tmp_path / "typo")
    message(e, f"data_dir = {tmp_path / 'typo'}", "no such folder", "Correct the path")
