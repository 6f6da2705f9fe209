"""Hamiltonian Monte Carlo of many units in native code, on the host: the log density, and a block of leapfrog steps.

One call moves every unit's chains by a block of steps, each group of units in one thread from the first step to the
last, with its numbers in that core's caches. The engine's own functions in XLA do the same for every model and device
(`inference.hmc`, `models.log_density`); these are for the models that a `Form` describes, on CPU.

References:
    Neal (2011), MCMC using Hamiltonian dynamics, arXiv:1206.1901.
"""

from mixfleet_kernels.hmc.arrays import Adam, Chains, Data, Draws, Evaluation, Form, Geometry, Place, Tuning
from mixfleet_kernels.hmc.native import FAMILIES, advance, climb, constrained, density, log_strengths, normals

__all__ = [
    "FAMILIES",
    "Adam",
    "Chains",
    "Data",
    "Draws",
    "Evaluation",
    "Form",
    "Geometry",
    "Place",
    "Tuning",
    "advance",
    "climb",
    "constrained",
    "density",
    "log_strengths",
    "normals",
]
