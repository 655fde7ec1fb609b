"""Whether an answer can be trusted: evidence against chance, overlap, noise, and what the clouds leave undetermined."""
