"""What the service writes: decisions, reservations, outbox."""
