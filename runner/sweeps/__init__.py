"""The verbs as functions on plain values: the Python API, which the command line calls.

They print nothing and end no process. What there is to say is in the value that they return; what
cannot wait for that, or would be lost where they fail, is told to a function that is passed in.
"""
