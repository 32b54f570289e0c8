"""``python -m tests.languages [LANGUAGE …]``: bring the catalogs up to the source, compile them, and print what is missing.

A language that is not there yet begins with an empty catalog.
"""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
django.setup()

from .catalogs import file_of, languages, missing, updated, write  # noqa: E402

for language in sys.argv[1:] or languages():
    write(language, updated(language))
    catalog = updated(language)
    lacking = missing(catalog)
    print(f"{file_of(language)}: {len(catalog)} texts, {len(lacking)} are not translated")
    for text in lacking:
        print(f"  {text}")
