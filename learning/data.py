"""Data sets by name: small gray images, two sets embedded, two from IDX files or downloaded; and the colour
images of :mod:`.colour`.

| name          | what                                                  | shape | training | test   |
|---------------|-------------------------------------------------------|-------|----------|--------|
| fashion-6k    | embedded: class-balanced part of Fashion-MNIST        | 28×28 | 6,000    | 1,000  |
| digits        | embedded: handwritten digits of the UCI repository    | 8×8   | 1,437    | 360    |
| fashion-mnist | clothes; Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747 | 28×28 | 60,000   | 10,000 |
| mnist         | handwritten digits; LeCun, Cortes, Burges 1998        | 28×28 | 60,000   | 10,000 |

These four are the same four IDX files (the embedded ones gzipped, in ``datasets/``, each with a data
card and its licence), read by the same code. The embedded images are lossless: pixels are the
original integers. Files are known by the checksum of their *content*, whatever compressed them.
"""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from . import colour
from .dataset import DataError, Dataset
from .idx import REPLACE, decompressed, parse_idx

if TYPE_CHECKING:
    from ..circuits.specs import TaskSpec

FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
ENVIRONMENT: Final = "OHMOSTAT_DATA"
EMBEDDED = Path(__file__).with_name("datasets")
ELSEWHERE: Final = f"Correct the path, or leave it out: then {ENVIRONMENT} and the user's cache are searched."
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist


@dataclass(frozen=True)
class _Spec:
    """What is known of a set; checksums in the order of FILES, of contents and of published .gz."""

    origin: str
    sha256: tuple[str, str, str, str]
    md5: tuple[str, str, str, str] | None = None  # None: embedded
    mirrors: tuple[str, ...] = ()
    shape: tuple[int, int] = (28, 28)
    white: int = 255  # the integer that stands for 1.0
    classes: int = 10


_SPECS: dict[str, _Spec] = {
    "fashion-6k": _Spec(
        origin="embedded part of Fashion-MNIST (MIT, 2017 Zalando SE)",
        sha256=(
            "1706aee5a4f426e970493a5d8e69dbab00d3e028d960d099774edaccbefe92ee",
            "a4beb889b246ec0128748419e2c2e9f0a6ca9c25425a9e4a044ae19655e3291f",
            "9af414b776608423a3263055ee12d6c36bc75df00361db6e1942c710df916cac",
            "4376615803ebce14db83fb350811985d2e7b3ebeae2fba7e58fcf3b4bdc0fdef",
        ),
    ),
    "digits": _Spec(
        shape=(8, 8),
        white=16,
        origin="embedded part of Optical Recognition of Handwritten Digits (UCI, CC BY 4.0)",
        sha256=(
            "29f287361ba63f4c1e31807f62dece0a3ce7ef58d575afb7390cd90a7f3a5790",
            "88b4e19a9f2f12d3602dd4127525c495b3a6437997bea80b9ba035341cf8da55",
            "26b730c58aae552f4ee63dce0aae72c8f4f0382d91ec9ef076128c43985bbdcb",
            "a351e0b1f5ae62b48b757c2676d9f9de215374c19c027345506bbd9ccf81f1ed",
        ),
    ),
    "fashion-mnist": _Spec(
        origin="Fashion-MNIST",
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        mirrors=(
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
    ),
    "mnist": _Spec(
        origin="MNIST",
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        md5=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
}
NAMES: Final[tuple[str, ...]] = (*_SPECS, *colour.SETS)
_KNOWN = {
    digest: (name, file)
    for name, spec in _SPECS.items()
    for file, digest in zip(FILES, spec.sha256, strict=True)
}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """The data set called ``name`` (one of NAMES); ``data_dir`` does not matter to embedded sets.

    The others are looked for in ``data_dir`` alone, if it is given; else in the folder that OHMOSTAT_DATA
    names, in ``/usr/share/datasets/fashion-mnist`` (fashion-mnist only) and in the user's cache; in a folder
    that is named first in its subfolder called ``name``. The first place that has any of the set's files
    counts. Found nowhere, they are downloaded into the cache and checked by checksum (colour images never
    are). Files may be gzipped (not those of colour images), and may hold fewer samples than the published
    ones.

    DataError: unknown name, no such ``data_dir``, a set that is not found, incomplete, damaged or
    mislabelled.
    """
    if name not in NAMES:
        raise DataError("data set", repr(name), f"one of {', '.join(NAMES)}", "Correct the name.")
    if name in colour.SETS:
        return colour.read_set(name, _places(name, data_dir) + ([_cache(name)] if data_dir is None else []))
    embedded = _SPECS[name].md5 is None
    return _read_set(name, _complete(EMBEDDED / name) if embedded else _locate(name, data_dir))


def load_task(task: TaskSpec, data_dir: str | Path | None = None) -> Dataset:
    """What a design's ``[task]`` section names, and as much of it as that asks for."""
    return load(task.data, data_dir).subset(task.train, task.test)


def _locate(name: str, data_dir: str | Path | None) -> tuple[Path, ...]:
    """The four files of ``name``, in the order of FILES; downloaded if they are nowhere."""
    places = _places(name, data_dir)
    for folder in places:
        if any(_find(folder, file) for file in FILES):
            return _complete(folder)
    if data_dir is not None:
        raise _not_there(name, places)
    cache = _cache(name)
    # An interrupted download leaves some of the files here: fetch the rest.
    if not all(_find(cache, file) for file in FILES):
        _download(name, cache, [*places, cache])
    return _complete(cache)


def _places(name: str, data_dir: str | Path | None) -> list[Path]:
    """Folders to look in: of the one that was asked for, or else of those that are known."""
    asked = os.environ.get(ENVIRONMENT) if data_dir is None else data_dir
    places = []
    if asked:
        root = Path(asked).expanduser()
        places = [root / name, root]
        if data_dir is not None and not root.is_dir():
            raise DataError(
                f"data_dir = {os.fspath(data_dir)}",
                "no such folder",
                f"a folder with the files of {name}, or with a subfolder {name}",
                ELSEWHERE,
            )
    return [*places, DEBIAN] if name == "fashion-mnist" and data_dir is None else places


def _cache(name: str) -> Path:
    import pooch

    return Path(pooch.os_cache("ohmostat")) / name


def _find(folder: Path, file: str) -> Path | None:
    """``file`` in ``folder``: plain or gzipped, also with a dot before idx, as some name it."""
    for stem in (file, file.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if os.path.isfile(path):  # unlike Path.is_file, no error if out of reach
                return path
    return None


def _complete(folder: Path) -> tuple[Path, ...]:
    found = {file: _find(folder, file) for file in FILES}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        expected = f"all of {', '.join(FILES)}, plain or .gz"
        remedy = "Add what is missing, or move the rest away to have the set looked for elsewhere."
        raise DataError(str(folder), f"no {', no '.join(missing)}", expected, remedy)
    return tuple(path for path in found.values() if path is not None)


def _download(name: str, folder: Path, searched: list[Path]) -> None:
    """Fetch what ``folder`` lacks from the first mirror that has it with the published checksum."""
    import pooch

    spec = _SPECS[name]
    assert spec.md5 is not None
    for file, md5 in zip(FILES, spec.md5, strict=True):
        problems = []
        for mirror in spec.mirrors:
            url = f"{mirror}{file}.gz"
            try:
                pooch.retrieve(url, known_hash=f"md5:{md5}", fname=f"{file}.gz", path=folder)
                break
            except (OSError, ValueError) as error:  # no network or no such page; wrong checksum
                problems.append(f"{url}: {_cause(error)}")
        else:
            raise _not_found(name, searched, problems)


def _cause(error: BaseException) -> str:
    """Why a download failed, briefly: what lies at the bottom of a chain of errors tells most."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"the server answers {status}"
    while below := error.__cause__ or error.__context__:
        error = below
    if isinstance(error, socket.gaierror):
        return "no such host, or no network"
    text = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return text if len(text) <= 100 else f"{text[:97]}..."


def _not_there(name: str, places: list[Path]) -> DataError:
    """Of a folder that was asked for, and has nothing of the set."""
    expected = f"{', '.join(FILES)}, plain or .gz"
    return DataError(f"data set {name}", f"no file in {' or '.join(map(str, places))}", expected, ELSEWHERE)


def _not_found(name: str, searched: list[Path], problems: list[str]) -> DataError:
    """Of a set that is nowhere; why it could not be downloaded stands at the end, a mirror a line."""
    embedded = ", ".join(n for n in _SPECS if _SPECS[n].md5 is None)
    causes = "".join(f"\n  {problem}" for problem in problems)
    return DataError(
        f"data set {name}",
        f"no file in {', '.join(map(str, searched))}, and none to download",
        f"{', '.join(FILES)}, plain or .gz",
        f"Put them into a folder and name it by data_dir (--data-dir) or {ENVIRONMENT}, "
        f"or use an embedded set ({embedded}). Tried:{causes}",
    )


def _read_set(name: str, paths: tuple[Path, ...]) -> Dataset:
    """The data set in the four files (in the order of FILES), checked."""
    spec = _SPECS[name]
    arrays, published = [], True
    for file, path in zip(FILES, paths, strict=True):
        content = decompressed(path)
        arrays.append(parse_idx(path, content, ndim=3 if "images" in file else 1))
        published &= _is_published(name, file, path, content)
    train_x, train_y, test_x, test_y = arrays
    _check_images(train_x, spec, paths[0])
    _check_labels(train_y, len(train_x), spec, paths[1])
    _check_images(test_x, spec, paths[2])
    _check_labels(test_y, len(test_x), spec, paths[3])
    return Dataset(
        name=name,
        train_x=_scaled(train_x, spec.white),
        train_y=train_y.astype(np.int64),
        test_x=_scaled(test_x, spec.white),
        test_y=test_y.astype(np.int64),
        classes=spec.classes,
        shape=spec.shape,
        source=_source(name, paths[0].parent, published),
    )


def _source(name: str, folder: Path, published: bool) -> str:
    spec = _SPECS[name]
    if spec.md5 is not None:
        content = "published content" if published else "content other than the published"
        return f"{spec.origin}, {content}, {folder}"
    if not published:
        found, expected = "content with another checksum", "what came with this version"
        raise DataError(str(folder), found, expected, "Install ohmostat again.")
    return spec.origin


def _scaled(images: npt.NDArray[np.uint8], white: int) -> npt.NDArray[np.float32]:
    x = images.reshape(len(images), -1).astype(np.float32)
    x /= np.float32(white)
    return x


def _is_published(name: str, file: str, path: Path, content: bytes) -> bool:
    """Whether this is the published ``file`` of ``name``; DataError if it is a known other one."""
    known = _KNOWN.get(hashlib.sha256(content).hexdigest())
    if known is not None and known != (name, file):
        found, expected = f"the content of {known[1]} of {known[0]}", f"{file} of {name}"
        raise DataError(str(path), found, expected, "Move the file to where it belongs.")
    return known is not None


def _check_images(images: npt.NDArray[np.uint8], spec: _Spec, path: Path) -> None:
    if images.shape[1:] != spec.shape:
        found, expected = (f"{h} × {w} pixels" for h, w in (images.shape[1:], spec.shape))
        raise DataError(str(path), found, expected, "Check that this is the right data set.")
    if images.max() > spec.white:
        found, expected = f"a pixel of {images.max()}", f"values of 0 to {spec.white}"
        raise DataError(str(path), found, expected, REPLACE)


def _check_labels(labels: npt.NDArray[np.uint8], images: int, spec: _Spec, path: Path) -> None:
    if len(labels) != images:
        found, expected = f"{len(labels)} labels", f"{images}, one for each image beside it"
        raise DataError(str(path), found, expected, "Use images and labels of the same part.")
    wrong = np.flatnonzero(labels >= spec.classes)
    if wrong.size:
        found = f"label {labels[wrong[0]]} at index {wrong[0]} ({wrong.size} such in all)"
        raise DataError(str(path), found, f"0 to {spec.classes - 1}", REPLACE)
