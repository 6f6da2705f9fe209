"""The moves of a sweep that are trajectories: leapfrog steps in XLA, and all of a trajectory in native code."""
