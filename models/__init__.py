"""The decision mathematics. No network, file, clock or environment: values and bytes in, values out."""
