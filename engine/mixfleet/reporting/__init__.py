"""Reporting: charts, sentences and the page of a run."""
