"""A trial counts whom it took in by itself, so that deleting somebody frees no number; screenings
are kept, also those after which no session begins.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make both tables; a trial goes on with its seed, after the highest number there is."""
    op.create_table(
        "studies",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seed_check", sa.Text(), nullable=True),
        sa.Column("next_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_studies"),
    )
    op.execute(
        "INSERT INTO studies (name, seed_check, next_number)"
        " SELECT study, max(seed_check), max(number) + 1 FROM persons"
        " WHERE study IS NOT NULL GROUP BY study"
    )
    op.drop_column("persons", "seed_check")
    op.create_table(
        "screenings",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False,
            nullable=False,
        ),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("table_version", sa.Integer(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("clinician", sa.Text(), nullable=True),
        sa.Column("override_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_screenings"),
        sa.ForeignKeyConstraint(
            ["person_id"], ["persons.id"], name="fk_screenings_person_id", ondelete="CASCADE"
        ),
    )  # fmt: skip
    op.create_index("ix_screenings_person_id_at", "screenings", ["person_id", "at"])
