"""What both kinds of functions know of Cap'n Proto's encoding (https://capnproto.org/encoding.html) and of records."""

from __future__ import annotations

from typing import Final

IN_BYTES: Final = 2
OF_POINTERS: Final = 6
"""What the items of a list are: of bytes (``Data``), or of pointers to bytes (``List(Data)``)."""
OF_OTHERS: Final = 0
"""A field that is neither."""
ITEMS_MAX: Final = 65_535
"""Items of one list or column of operations: numbers of operations are 16 bits wide where they are stored."""
RECORD_HEADER_BYTES: Final = 12
"""What stands before the value of a record: its checksum u32 and its number u64."""
