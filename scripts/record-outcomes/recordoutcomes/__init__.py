"""Records what small local models make of the prompts of eval/sets."""
