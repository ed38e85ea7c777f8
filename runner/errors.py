"""The one exception for a person's mistake, as opposed to a failed generation."""

from __future__ import annotations


class UserError(Exception):
    """The command, the experiment or the machine is not as it must be.

    The message names what is wrong, where, and what to do next, in a line or two. The
    command line prints it on standard error and exits with status 2, before any GPU starts.
    """
