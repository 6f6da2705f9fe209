"""Experiments: lift tests of any origin, as each unit's own media paths with and without the test."""
