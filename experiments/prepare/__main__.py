"""Get a data set and verify it, into the layout its loader reads.

    python -m experiments.prepare                                     # what there is
    python -m experiments.prepare with dataset=kodak
    python -m experiments.prepare with dataset=clic split=mobile_test data_root=/big/disk
    python -m experiments.prepare with dataset=kodak url=http://mirror.example/kodak   # the same files elsewhere

A file that a program cannot fetch is downloaded by hand into DATA_ROOT/downloads/manual under its own name; it is then
verified and used instead of the network. An interrupted download resumes. Exit code 2: something to act on.
"""

import sys

from core.commandline import piped
from experiments.prepare import main

sys.exit(piped(lambda: main(sys.argv[1:])))
