"""What a policy is worth and how sure we are: off-policy estimators, experiment statistics, laws."""
