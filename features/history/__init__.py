"""The database: tables, append, query. SQLAlchemy Core on SQLite or PostgreSQL."""
