"""Alembic's environment: migrate over the connection that `features.history.engine.migrate` hands in."""

from alembic import context

from features.history.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,
)
context.run_migrations()
