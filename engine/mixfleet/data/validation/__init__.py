"""Validation: what is wrong with a table, cell by cell, date by date and series by series."""
