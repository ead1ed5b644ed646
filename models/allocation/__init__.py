"""Many customers, scarce channels: what a unit of a capacity or budget is worth, and who gets it."""
