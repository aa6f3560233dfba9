"""How Alembic runs the migrations: on the connection, and inside the transaction, of whoever opens the store."""

from alembic import context

from rollout.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
