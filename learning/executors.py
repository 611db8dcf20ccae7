"""Where the runs of a sweep are done: processes of this machine, or a cluster's workers through Dask.

Both are a ``concurrent.futures.Executor``; what is submitted is a pure function of its arguments, and its
result comes back to the one process that writes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager

Place = AbstractContextManager[Executor]
CONNECT = "10s"  # to wait for a scheduler


class ClusterError(RuntimeError):
    """A cluster that cannot be used; says why and what to do."""


@contextmanager
def processes(workers: int) -> Iterator[Executor]:
    """So many processes of this machine; they end with it, however it ends."""
    import multiprocessing

    # Workers inherit this: one BLAS thread each, or two processes on two cores fight for four.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _watch_parent, (os.getpid(),)) as pool:
        yield pool


def _watch_parent(parent: int) -> None:
    """Worker start: end with the parent, even one that was killed (its workers would wait for ever)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
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
