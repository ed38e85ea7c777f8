def load(settings):
    """Another method."""


def generate(job, path): ...
