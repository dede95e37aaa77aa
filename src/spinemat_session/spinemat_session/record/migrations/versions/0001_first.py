"""The first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

HASH = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make all tables in an empty database."""
    _table(
        "persons",
        _text("id"),
        _text("group_name", nullable=True),
        _text("study", nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("intake", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_persons"),
        sa.UniqueConstraint("study", "number", name="uq_persons_study_number"),
        indices=[["group_name"]],
    )
    _table(
        "sessions",
        _text("id"),
        _reference("sessions", "person_id"),
        _text("mat"),
        _required("started", TIME),
        _required("last_known", TIME),
        sa.Column("ended", TIME, nullable=True),
        _required("day", sa.Integer()),
        _text("programme"),
        _text("programme_version"),
        _text("phase"),
        _text("state"),
        _text("cause"),
        _text("folder"),
        _text("software"),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("sham", sa.Boolean(), nullable=True),
        _text("allocation", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        indices=[["person_id", "started", "day", "id"], ["state", "mat"]],
    )
    _table(
        "plans",
        _reference("plans", "session_id"),
        _required("plan", sa.JSON()),
        sa.PrimaryKeyConstraint("session_id", name="pk_plans"),
    )
    _table(
        "levels",
        _reference("levels", "session_id"),
        _text("moment"),
        _text("level"),
        _text("side"),
        _number("stiffness_n_per_m"),
        _number("standard_error_n_per_m"),
        _number("mdc_n_per_m"),
        _required("valid", sa.Boolean()),
        _text("reason"),
        sa.PrimaryKeyConstraint("session_id", "moment", "level", "side", name="pk_levels"),
        sqlite_with_rowid=False,
    )
    _table(
        "summaries",
        _reference("summaries", "session_id"),
        _text("moment"),
        _number("kyphosis_rad"),
        _number("lordosis_rad"),
        _number("asymmetry_m"),
        _number("evenness"),
        _number("evenness_error"),
        _number("trunk_stiffness_ratio"),
        sa.PrimaryKeyConstraint("session_id", "moment", name="pk_summaries"),
        sqlite_with_rowid=False,
    )
    _table(
        "doses",
        _reference("doses", "session_id"),
        _text("level"),
        _required("work_j", sa.Double()),
        _required("peak_n", sa.Double()),
        _required("pressing_time_s", sa.Double()),
        _required("cycles", sa.Integer()),
        sa.PrimaryKeyConstraint("session_id", "level", name="pk_doses"),
        sqlite_with_rowid=False,
    )
    _told("comforts", _text("place"), _required("value", sa.Double()), _text("action"))
    _told("events", _text("kind"), _text("text"))
    _told("overrides", _text("clinician"), _text("rule"), _text("reason"))
    _table(
        "outcomes",
        _required("id", HASH, autoincrement=False),
        _reference("outcomes", "person_id"),
        _reference("outcomes", "session_id", nullable=True),
        _required("at", TIME),
        _required("day", sa.Integer()),
        _text("moment", nullable=True),
        _text("kind"),
        _text("item"),
        _number("value"),
        _text("text"),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
        indices=[["person_id", "kind", "day", "moment", "value"], ["session_id"]],
    )


def _told(name: str, *columns: Any) -> None:
    """Make a table of things that were told at some time in a session."""
    _table(
        name,
        _required("id", HASH, autoincrement=False),
        _reference(name, "session_id"),
        _required("at", TIME),
        *columns,
        sa.PrimaryKeyConstraint("id", name=f"pk_{name}"),
        indices=[["session_id", "at"]],
    )


def _table(name: str, *parts: Any, indices: list[list[str]] | None = None, **options: Any) -> None:
    op.create_table(name, *parts, **options)
    for columns in indices or []:
        op.create_index(f"ix_{name}_{'_'.join(columns)}", name, columns)


def _required(name: str, kind: Any, **options: Any) -> Any:
    return sa.Column(name, kind, nullable=False, **options)


def _number(name: str) -> Any:
    return sa.Column(name, sa.Double(), nullable=True)


def _text(name: str, nullable: bool = False) -> Any:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _reference(table: str, column: str, nullable: bool = False) -> Any:
    target = f"{column.removesuffix('_id')}s.id"
    key = sa.ForeignKey(target, name=f"fk_{table}_{column}", ondelete="CASCADE")
    return sa.Column(column, sa.Text(), key, nullable=nullable)
