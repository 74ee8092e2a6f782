"""Which lines of a file an import that was cut short has dealt with already."""

import hashlib
import os
from pathlib import Path
from typing import Self

import platformdirs


class Checkpoint:
    """A file with one byte for each line, set once the server has acknowledged it.

    So it costs a constant amount of memory and one small write a line, and a process may be killed
    at any moment. It lives until the import has seen the whole file.
    """

    def __init__(self, path: Path, *, restart: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if restart:
            path.unlink(missing_ok=True)
        self._path = path
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)

    def __contains__(self, line: int) -> bool:
        self._file.seek(line)
        return self._file.read(1) == b"1"

    def add(self, line: int) -> None:
        self._file.seek(line)
        self._file.write(b"1")

    def remove(self) -> None:
        """Forget it: the import is complete."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def checkpoint_path(file: Path, *circumstances: str) -> Path:
    """Where the checkpoint of a file is kept; another one once the file or any circumstance changes."""
    status = file.stat()
    told = "\0".join((str(file.resolve()), str(status.st_size), str(status.st_mtime_ns), *circumstances))
    folder = Path(os.environ.get("THMNAYAH_STATE_DIR") or platformdirs.user_state_path("thmnayah", appauthor=False))
    return folder / "imports" / hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
