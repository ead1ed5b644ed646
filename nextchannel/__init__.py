"""The command line and the settings of nextchannel."""
