"""The review page: what was decided, who works on what, and what the browser shows."""
