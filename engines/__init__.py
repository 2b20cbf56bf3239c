"""Engines: speech to text, chat, text to speech, each behind one Protocol (see types.py)."""
