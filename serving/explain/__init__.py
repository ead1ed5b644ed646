"""A decision explained to people, in their language: the words, and what they are made of."""
