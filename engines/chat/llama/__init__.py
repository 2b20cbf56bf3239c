"""A Hugging Face chat model on this machine: many conversations in one batch, each with its prefix kept in cache."""
