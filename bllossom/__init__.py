"""Bllossom teaches an English language model another language, end to end, and proves it with numbers."""
