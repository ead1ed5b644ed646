"""What an offer gives: coupons, points, draws and surveys; to whom it was given, and what was redeemed."""
