"""What `launcher.py` is made of: the parts, their processes, their output, the checks before and the doctor."""
