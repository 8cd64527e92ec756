"""Runs jgo over one kept connection: run by fetch.py with the fetched Python environment, not by hand.

jgo 3.2.0 opens a connection, with its TLS handshake and certificates, for each of some 260 files: about 70 s instead
of 10.
"""

import sys

import requests
from jgo.__main__ import main

requests.request = requests.Session().request
sys.exit(main())
