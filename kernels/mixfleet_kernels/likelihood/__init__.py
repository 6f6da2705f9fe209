"""The likelihood of a media mix model, its linear block integrated out, with its gradient in one pass.

`y = sum_c effect_c response_c + Z gamma + noise`, where `response` is adstock and saturation of one channel's media,
`gamma ~ Normal(0, S)` and the noise is Gaussian, so that `gamma` integrates out exactly. With the thin singular
value decomposition `Z S^(1/2) = U diag(sqrt(variance)) V'`, the residual `r` and `q = U'r`,

    -2 log L = sum_k [q_k^2 / (s2 + variance_k) + log(s2 + variance_k)] + |r - U q|^2 / s2
               + (T - p) log s2 + T log 2 pi

The part of `r` outside the basis is formed before it is squared: the usual difference of squares would lose half of
float32's digits where the baseline explains most of the outcome.

References:
    Lai, Domke and Sheldon (2024), Hamiltonian Monte Carlo Inference of Marginalized Linear Mixed-Effects Models,
    arXiv:2410.24079.
"""

from mixfleet_kernels.likelihood.arrays import Likelihood, Response, Series
from mixfleet_kernels.likelihood.xla import evaluate, respond

__all__ = ["Likelihood", "Response", "Series", "evaluate", "respond"]
