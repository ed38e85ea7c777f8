"""The `script` backend: a person's own method, resident in an interpreter of its own.

The script is a file with functions, and needs nothing of ours where it runs:

    load(settings)         once: a dict of `model.settings`, `model.files` and "device"
    prepare(group)         optional, once per group: `group.reference`, `group.parameters`
    generate(job, path)    write the video of `job` to `path`; `job.step(n, total)` as it goes
    close()                optional, at the end

`service.py` runs there, by `foreign`; docs/your_own_method.md tells it to a person.
"""
