"""Engines and stored things behind HTTP and WebSocket, and the common ground of every HTTP part."""
