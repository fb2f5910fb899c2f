"""`python -m services.dns_filter.lists WORK`: compile lists in a process of its own.

A process that answers queries must neither stand still for seconds nor keep the memory that this takes.
"""

import gc
import os
import sys

import msgspec

from services.dns_filter.lists.files import Work, compile_lists

gc.disable()  # nothing that is made here refers back
os.nice(5)  # packets go first
try:
    compile_lists(msgspec.json.decode(sys.argv[1], type=Work))
except (OSError, ValueError) as error:
    sys.exit(f"lists cannot be compiled: {error}")
