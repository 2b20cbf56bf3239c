"""LiveKit Agents classes over any engine: speech-to-text, language model, text-to-speech."""
