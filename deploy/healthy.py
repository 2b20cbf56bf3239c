"""Exit with 0 where the part on this port says that it can serve: `python deploy/healthy.py PORT`."""

import os
import sys
import urllib.request

HOST = os.environ.get("HOST", "")
ADDRESS = "127.0.0.1" if HOST in ("", "0.0.0.0", "::") else HOST  # noqa: S104 - everywhere includes loopback
PORT = int(sys.argv[1])

WITH_TLS = {int(os.environ.get("PAGE_PORT") or 8080), int(os.environ.get("COMPAT_PORT") or 8000)}
"""Ports of the parts that speak TLS where TLS is on."""

context = None
scheme = "http"
if os.environ.get("TLS", "").lower() in ("1", "true", "yes", "on", "t", "y") and PORT in WITH_TLS:
    from settings import Settings
    from settings.tls import trust

    known = trust(Settings())
    assert known is not None
    scheme, context = "https", known.context()

# Anything but 200 raises, and so exits with 1.
urllib.request.urlopen(  # noqa: S310 - http or https, as said above
    f"{scheme}://{ADDRESS}:{PORT}/health", timeout=5, context=context
).close()
