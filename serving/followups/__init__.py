"""Conversations: what follows a message that met silence or an answer, or an event that asks for one."""
