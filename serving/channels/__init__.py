"""Channel adapters: contract, registry, and the adapters that come with the product."""
