"""What ``jaxreid train`` tells those who started it, by its exit code."""

FAILED = 1
"""An error that was explained; to start again changes nothing."""

LOST = 69
"""Another process of the run is gone: all have to be started again, and go on from the last save.

EX_UNAVAILABLE of sysexits.h.
"""

CRASHED = 70
"""An error that nobody foresaw: to start again may help. EX_SOFTWARE of sysexits.h."""

STOPPED = 75
"""Told to stop (SIGTERM, a maintenance notice), and everything is saved: the same command goes on.

EX_TEMPFAIL of sysexits.h.
"""

INTERRUPTED = 130
"""Told to stop by Ctrl-C, and everything is saved; whoever typed it wants no restart.

128 and the signal's number, as shells report it.
"""
