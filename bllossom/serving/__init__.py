"""What talks to others: a client for OpenAI-compatible endpoints, and a small base for pages on 127.0.0.1."""
