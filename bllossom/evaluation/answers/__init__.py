"""Answers of models to files of prompts."""
