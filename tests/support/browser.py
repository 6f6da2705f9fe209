"""The browser in which tests look at pages."""

import shutil

__all__ = ["CHROMIUM"]

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
"""Its program, None where there is none."""
