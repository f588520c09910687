"""Fixtures of the tests of the report page."""

from tests.support.report_page import browser, opened, page, results

__all__ = ["browser", "opened", "page", "results"]
