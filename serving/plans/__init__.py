"""An audience decided for in the background: forecast, shadow prices, progress."""
