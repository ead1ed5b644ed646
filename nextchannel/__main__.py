"""`python -m nextchannel`."""

from nextchannel.main import app

app()
