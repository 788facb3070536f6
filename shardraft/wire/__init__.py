"""Cap'n Proto <-> values: the only room that knows how a message looks on the wire or on disk.

What this room does: splits a byte stream into frames, decodes each frame once into frozen values
and encodes values into frames, all of it sans I/O (``framing``, ``hello``, ``client``, ``peer``,
``stored``; the schemas lie in ``schema/``). Every decoder raises one typed error with a text that is
safe to show (``ProtocolError`` or ``InvalidArgument``; ``StorageError`` for what comes from the own
disk), in time and memory bounded by the length of its input. What it never does: open connections
or files of data, keep state between frames (but for ``FrameDecoder``), or judge what a message
means: terms, limits and permissions are for those who receive the values.
"""
