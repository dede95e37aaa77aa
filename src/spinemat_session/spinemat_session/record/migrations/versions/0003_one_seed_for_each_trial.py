"""A trial keeps to the seed with which its first person was taken in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; a trial that has begun takes the next seed that is given."""
    op.add_column("persons", sa.Column("seed_check", sa.Text(), nullable=True))
