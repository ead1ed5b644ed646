"""Chats: answers by keywords and office hours, what people answer themselves, and the lines that are sent."""
