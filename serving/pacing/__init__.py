"""Shadow prices for requests that come by themselves: who asked on the days before, what is left, and what that makes it worth."""
