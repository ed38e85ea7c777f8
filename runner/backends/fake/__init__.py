"""The fake backend: no model, but real, decodable videos of the asked size, count and rate.

It drives most tests and benchmarks, and serves to try out an experiment file and a placement
before any weights are there: `sweep launch FILE backend=fake model={seconds: 0.2}`. On command
it goes wrong in every way that a real one can, so that one may see what the runner does then:

    model: {seconds: 0.2, faults: [{kind: gpu_error, gpu: 3}, {kind: hang, video: ref_a, times: 1}]}
"""
