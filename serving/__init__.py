"""The service: decisions over HTTP, the outbox, channels and the dashboard."""
