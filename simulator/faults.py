"""All faults of an input told at once, in place of one at a time."""

from __future__ import annotations

MOST_TOLD = 10  # each; of the others their number
MOST_FOUND = 1000  # after which there is no point in looking for more


class Faults:
    """Gathers errors of a ``kind`` (of none beneath it): ``with faults:`` holds one back, and :meth:`tell`
    raises what was held back, if anything: the first error, whose text then has the others' below its own,
    each once. Those that have a ``line`` are in their order, file by file.
    """

    def __init__(self, kind: type[ValueError]) -> None:
        self.kind, self.count = kind, 0
        self._found: dict[str, ValueError] = {}  # by text

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if not isinstance(error, self.kind) or type(error) is not self.kind:
            return False
        self.count += 1
        if len(self._found) < MOST_FOUND:
            self._found.setdefault(str(error), error.with_traceback(None))
        return True

    @property
    def many(self) -> bool:
        """Whether there are so many that no more need be looked for."""
        return self.count >= MOST_FOUND

    def tell(self) -> None:
        """Raise the first error, with all faults in its text."""
        if self._found:
            files = [getattr(error, "file", "") for error in self._found.values()]
            errors = sorted(
                self._found.values(),
                key=lambda error: (files.index(getattr(error, "file", "")), getattr(error, "line", 0)),
            )
            rest = (self.count if self.many else len(errors)) - MOST_TOLD
            more = [f"and {rest} more"] if rest > 0 else []
            errors[0].args = ("\n".join([*map(str, errors[:MOST_TOLD]), *more]),)
            raise errors[0] from None
