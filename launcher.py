"""Starts and supervises every part."""
