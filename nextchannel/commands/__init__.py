"""The sub-commands: each reads its arguments, calls one function and prints what came of it."""
