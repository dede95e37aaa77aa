"""What can go wrong with a database, said so that a person can act on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# kind: what happened, what to do, may pass by itself
KINDS = {
    "locked": (
        "another program holds the database",
        "close the program that has it open (a backup, a database browser) and try again",
        True,
    ),
    "read_only": (
        "the database cannot be written, only read",
        "give this user the right to write the file and its folder, or name another database",
        True,
    ),
    "full": (
        "the disk of the database is full or does not take data",
        "free some space or check the disk; nothing that was written before is lost",
        True,
    ),
    "lost": (
        "there is no connection to the database",
        "start the database server or put the file back; what is queued is written then",
        True,
    ),
    "refused": (
        "the database server does not let us in",
        "check user, password and rights of the URL",
        True,
    ),
    "url": (
        "this is not a URL of a database",
        "use a path, sqlite:////path/to/file or postgresql://user@host/name",
        False,
    ),
    "damaged": (
        "the file is not a database or is damaged",
        "put it aside and restore a copy, or name another file",
        False,
    ),
    "newer": (
        "the database was written by a newer version of SpineMat",
        "update SpineMat; an older one must not touch it",
        False,
    ),
    "foreign": (
        "the database holds tables of something else",
        "name an empty database, or one that SpineMat made",
        False,
    ),
    "unknown": ("there is no such entry", "check the id; begin the session first", False),
    "taken": ("this id is already in use", "choose another id", False),
    "wrong": (
        "the database does not accept this",
        "report it: it should have been noticed",
        False,
    ),
}
_TEXTS = {  # SQLite tells by words (codes come only with Python 3.11)
    "locked": "locked",
    "readonly": "read_only",
    "disk is full": "full",
    "disk i/o error": "full",
    "unable to open": "lost",
    "no such table": "lost",
    "no such column": "lost",
    "not a database": "damaged",
    "malformed": "damaged",
}
_STATES = {  # PostgreSQL tells by SQLSTATE, or its first characters
    "53100": "full",
    "58030": "full",  # input or output error
    "25006": "read_only",
    "42501": "refused",
    "28": "refused",
    "55P03": "locked",
    "57014": "locked",  # statement_timeout
    "40": "locked",  # deadlock, serialization
    "23505": "taken",
    "23503": "unknown",
    "42P01": "lost",  # no such table: dropped under us
    "3D000": "lost",  # no such database
    "53": "lost",
    "57P": "lost",  # shutting down, starting up, dropped
    "08": "lost",
}


class StoreError(RuntimeError):
    """The record could not be read or written; the message is one line for people.

    Attributes:
        kind: one of `KINDS`.
        temporary: it may pass without anything being changed in what was asked.
    """

    def __init__(self, where: str, kind: str, detail: str = "") -> None:
        what, todo, self.temporary = KINDS[kind]
        self.kind = kind
        detail = " ".join(detail.split())
        super().__init__(f"record {where}: {what}{f' ({detail})' if detail else ''}; {todo}")


@contextlib.contextmanager
def faults(where: str) -> Iterator[None]:
    """Turn whatever a database raises into a `StoreError`.

    Args:
        where: the database as people may see it, without a password.
    """
    try:
        yield
    except PoolTimeout as error:
        raise StoreError(where, "locked", "all connections are busy") from error
    except DBAPIError as error:
        raise StoreError(where, _kind(error), str(error.orig)) from error
    except SQLAlchemyError as error:
        raise StoreError(where, "wrong", str(error)) from error


def _kind(error: DBAPIError) -> str:
    state = getattr(error.orig, "sqlstate", None)
    if state:
        for length in (5, 3, 2):
            if state[:length] in _STATES:
                return _STATES[state[:length]]
        return "wrong"
    text = str(error.orig).lower()
    for words, kind in _TEXTS.items():
        if words in text:
            return kind
    if "password" in text or "authentication" in text:
        return "refused"
    if error.connection_invalidated or "connect" in text or "server" in text:
        return "lost"
    if isinstance(error, OperationalError) and type(error.orig).__module__ != "sqlite3":
        return "lost"
    return "taken" if "unique" in text else "unknown" if "foreign key" in text else "wrong"
