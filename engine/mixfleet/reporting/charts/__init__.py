"""Charts as Altair objects, each beside the frame that it shows."""

from mixfleet.reporting.charts.figure import Figure
from mixfleet.reporting.charts.judgements import backtest, leaderboard
from mixfleet.reporting.charts.plots import Plots

__all__ = ["Figure", "Plots", "backtest", "leaderboard"]
