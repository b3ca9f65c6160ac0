"""What becomes of a review: each example's outcome, how much was changed, and what is told of it."""
