"""Which of two answers is better, asked of people, and how far they agree."""
