"""Occasions: for a campaign, decide on a date of the customer, or so long after a fact."""
