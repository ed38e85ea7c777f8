"""Another interpreter at work for a worker, for backends whose model lives in an environment of its
own: where it is and what it says of itself (`interpreter`), its process as the worker sees it
(`child`), and what runs there (`server`), which needs nothing of ours.

A backend writes a service, a file that says what can be called there, and calls it by `Child`.
"""
