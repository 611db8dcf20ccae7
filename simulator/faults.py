"""All faults of an input told at once, in place of one at a time."""

from __future__ import annotations

MOST_TOLD = 10  # each; of the others their number
MOST_FOUND = 1000  # after which there is no point in looking for more


class Faults:
    """Gathers errors of a ``kind``: ``with faults:`` holds one back, and :meth:`tell` raises what was held
    back, if anything: the first error, whose text then has the others' below its own, each once.
    """

    def __init__(self, kind: type[ValueError]) -> None:
        self.kind, self.count = kind, 0
        self._first: ValueError | None = None
        self._told: dict[str, None] = {}  # texts, in order

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if not isinstance(error, self.kind):
            return False
        self.count += 1
        self._first = self._first or error
        if len(self._told) <= MOST_FOUND:
            self._told[str(error)] = None
        return True

    @property
    def many(self) -> bool:
        """Whether there are so many that no more need be looked for."""
        return self.count >= MOST_FOUND

    def tell(self) -> None:
        """Raise the first error, with all faults in its text."""
        if self._first is not None:
            texts = list(self._told)
            rest = (self.count if self.many else len(texts)) - MOST_TOLD
            more = [f"and {rest} more"] if rest > 0 else []
            self._first.args = ("\n".join([*texts[:MOST_TOLD], *more]),)
            raise self._first from None
