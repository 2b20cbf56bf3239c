"""XTTS v2 as a `Synthesizer`: many streams in one batch, first sound early, the same sound as coqui's."""
