"""Each session keeps the answers it was begun with; a person's are those of the last one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; earlier sessions do not know."""
    op.add_column("sessions", sa.Column("intake", sa.JSON(), nullable=True))
