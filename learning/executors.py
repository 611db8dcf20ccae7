"""Where the runs of a sweep are done: processes of this machine, or a cluster's workers through Dask.

Both are a ``concurrent.futures.Executor``; what is submitted is a pure function of its arguments, and its
result comes back to the one process that writes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

Place = AbstractContextManager[Executor]
CONNECT = "10s"  # to wait for a scheduler


class ClusterError(RuntimeError):
    """A cluster that cannot be used; says why and what to do."""


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """So many processes of this machine; they end with it, however it ends, and at once where an error or an
    interrupt ends it: what they are at is lost.
    """
    import multiprocessing

    # Workers inherit this: one BLAS thread each, or two processes on two cores fight for four.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours, ProcessPoolExecutor(workers, context, _end_with, (theirs,)) as pool:
        try:
            yield pool
        except BaseException:
            ours.close()
            raise


def _end_with(parent: Connection) -> None:
    """Worker start: end when the other end of this pipe closes, which a killed parent's does as well (its
    workers would wait for ever). A terminal's interrupt reaches all; what comes of it is the parent's to say.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with suppress(EOFError, OSError):
            parent.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def cluster(address: str) -> Iterator[Executor]:
    """The workers of the Dask scheduler at ``address``, such as ``tcp://10.0.0.5:8786``.

    The scheduler gives a run whose worker is lost to another one, up to its ``allowed-failures`` times.
    Raises ClusterError where no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "--scheduler needs Dask, which is not installed: pip install 'ohmostat[cluster]'"
        ) from None
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({error}): start one with 'dask scheduler', "
            "and give the address that it prints"
        ) from None
    with client:
        yield client.get_executor(pure=False)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
