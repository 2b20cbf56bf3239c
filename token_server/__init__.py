"""Page, room tokens, personalities and voices on port 8080, and the watch that has dead agents replaced."""
