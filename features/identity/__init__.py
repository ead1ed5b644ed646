"""ONE_ID: contact points in a normal form and sealed at rest, and which of them belong to one person."""
