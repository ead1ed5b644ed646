"""The nouns of the decision. Standard library only: values in, values out."""
