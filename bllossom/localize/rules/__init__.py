"""The rules: each reads one message and its source, and says where a person should look."""
