"""Compute kernels of marketing mix models: arrays in, arrays out, nothing but jax and numpy.

One folder per operation, each with the public operation, an obviously right `reference`, the fast
`xla` implementation and the named `cases` that tests and benchmarks share. What is right for `convergence` is
what ArviZ finds, in the tests.
"""
