"""Reference pages, generated from the registries: `python -m kbit_ref.book [PAGE ...]` writes them again.

`pages` says what there is; `faults` has the quantizers by hand that one of the pages tries `check` on.
"""

from kbit_ref.book.pages import FOLDER, PAGES, contents, page

__all__ = ["FOLDER", "PAGES", "contents", "page"]
