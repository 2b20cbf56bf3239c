"""One conversation, any transport: the ear, the turn policy, history, latency records, and the builder of it all."""
