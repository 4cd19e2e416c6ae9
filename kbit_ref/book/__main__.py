"""Write the pages again: all quick ones, or those that are named."""

import sys

from kbit_ref.book.pages import FOLDER, PAGES, page

for name in sys.argv[1:] or [name for name, one in PAGES.items() if not one.slow]:
    (FOLDER / f"{name}.md").write_text(page(name), "utf-8")
    print(FOLDER / f"{name}.md")
