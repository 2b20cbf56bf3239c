"""Room transport: the worker that joins LiveKit rooms, its jobs, its command line and the terminal console."""
