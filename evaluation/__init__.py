"""Evaluations of REaaS through its public SDK."""

import os

# The client's matrices are small and the services need the cores: threads of BLAS and torch would
# only get in each other's way (training a head took ten times the processor time). They read this
# when they are first imported, so it is set before.
os.environ.setdefault("OMP_NUM_THREADS", "1")
