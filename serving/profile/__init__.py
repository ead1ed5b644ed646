"""What is said of a segment: who its members are, where they can be reached, and what a campaign did with them."""
