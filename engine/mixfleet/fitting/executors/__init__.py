"""Where results of a fit come from: this process, an earlier run, shards, a cluster."""
