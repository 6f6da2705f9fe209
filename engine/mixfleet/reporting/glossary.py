"""The words of reports, in one place: the page, the workbook and the documentation have them from here."""

from collections.abc import Mapping

__all__ = ["GLOSSARY", "STATUS_WORDS", "glossary_markdown"]

GLOSSARY: Mapping[str, str] = {
    "unit": "One brand in one market, or whatever the key columns name: one KPI series with its media.",
    "KPI": "What is explained: revenue, or a count such as orders or new customers.",
    "incremental": "What would not have come without the media: the model's KPI with them, less the KPI without them.",
    "contribution": "The incremental KPI of a channel in the weeks shown, whenever its media ran; where channels "
    "multiply each other, its share of what all media brought together.",
    "ROI, ROAS": "Incremental revenue per unit of money spent. ROAS is the same where the KPI is revenue; 1 means that "
    "revenue equals spend.",
    "marginal ROI": "What the last unit of money returned. It decides where the next one should go; ROI does not.",
    "break-even": "The return at which money comes back: 1, or with a margin of m, 1 / m.",
    "CAC, cost per incremental KPI": "Spend per incremental KPI, such as per new customer.",
    "confidence, 90 % interval": "With probability 90 % the number lies inside, given the model and its priors. The "
    "interval does not hold the doubt whether the model is the right one.",
    "draw": "One set of numbers that fits the data and the priors. A thousand of them make means and intervals.",
    "adstock, carry-over": "How long an effect goes on after the media; the half-life is when half of it has come.",
    "saturation, response curve": "How the effect levels off as spend grows; beyond the spends seen it is a guess.",
    "half-saturation": "Weekly spend at which a channel brings half of the most that it can.",
    "baseline": "What the KPI would be without media: level, trend, seasons, price, promotions, holidays.",
    "prior": "What was held likely before looking at the data. Where the data say little, the answer is the prior's.",
    "pooling, borrowing": "Units of a group inform each other; a unit with few data leans on its group.",
    "lift test": "An experiment that measured what media brought, by switching them off or up somewhere.",
    "pass, review, fail": "Pass: no check objects. Review: usable with care, for the reasons named. Fail: not to be "
    "used, and in no total.",
    "R2, wMAPE": "Share of the KPI's variation that the model explains; how far it is off in an average week.",
    "holdout": "Last weeks kept from the fit, to see how well the model foretells them.",
    "frontier": "The best plan of every total spend.",
    "value of an experiment": "What a better plan is expected to bring once an experiment has told more.",
}
"""Term to what it means to a reader."""

STATUS_WORDS: Mapping[str, str] = {
    "ok": "usable",
    "ok_warn": "usable with care",
    "ok_retried": "usable, after longer sampling",
    "ok_fallback": "usable, after longer sampling in double precision",
    "misfit": "not to be used: its data contradict the model",
    "quarantined": "not to be used: no stable answer",
    "rejected": "not modelled: its data do not allow it",
    "failed": "not modelled: an error",
}
"""A unit's status in the reader's words."""


def glossary_markdown() -> str:
    """The page of the documentation."""
    rows = "\n".join(f"**{term}**\n:   {meaning}\n" for term, meaning in GLOSSARY.items())
    return f"# Glossary\n\nThe words of reports, tables and plans.\n\n{rows}"
