"""Which of two models answers better: asked of a judge in both orders, or of people, and counted."""
