"""Occasions: for a campaign, decide on a date of the customer, so long after a fact, or for a referral."""
