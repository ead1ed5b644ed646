"""From predictions to a distribution over candidates: value, baselines, bandit, guardrail."""
