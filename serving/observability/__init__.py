"""What the service tells about itself: figures, logs, traces."""
