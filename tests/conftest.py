import jax

# A silent broadcast between units and weeks would be a wrong answer; every rank change is written out.
jax.config.update("jax_numpy_rank_promotion", "raise")
