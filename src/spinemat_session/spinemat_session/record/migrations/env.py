"""What Alembic runs: `opening.migrate` hands it a connection in a transaction.

To change the tables: change schema.py, add versions/000N_what.py with an `upgrade` that brings a
database of the version before here without losing a row, and set `opening.VERSION`. A test
compares what the migrations make with what schema.py says, in SQLite and in PostgreSQL.
"""

from __future__ import annotations

from alembic import context

from spinemat_session.record.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a table by making it anew
)
context.run_migrations()
