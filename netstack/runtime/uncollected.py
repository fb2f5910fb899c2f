"""Imported first by what is a process of a service: the collector of cycles waits until everything is imported.

What is imported stays, and looking through it again and again is a tenth of a start. netstack.runtime.service has it
look again, seldom (netstack.runtime.memory.collect_rarely).
"""

import gc

gc.disable()
