"""Exit with 0 where the part on this port says that it can serve: `python deploy/healthy.py PORT`."""

import os
import sys
import urllib.request

HOST = os.environ.get("HOST", "")
ADDRESS = "127.0.0.1" if HOST in ("", "0.0.0.0", "::") else HOST  # noqa: S104 - everywhere includes loopback

# Anything but 200 raises, and so exits with 1.
urllib.request.urlopen(f"http://{ADDRESS}:{int(sys.argv[1])}/health", timeout=5).close()
