"""Occasions: for a campaign, decide on a date of the customer."""
