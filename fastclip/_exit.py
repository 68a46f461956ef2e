"""The end of the process while other threads are still inside a function of fastclip.

Python does not wait for daemon threads. One that next needs the interpreter lock is ended where it
stands; inside of C++ that would be the end of the process, with an error. These threads stop their
work and sleep instead. The end waits for them, a second at most.
"""

import atexit
import threading

from fastclip import _C


@atexit.register
def _park_daemon_threads() -> None:
    if any(thread.daemon for thread in threading.enumerate()):
        _C.park_other_threads()
