"""What survives: log, applied state, copies and identity of one host, behind the ``Store`` port.

What this room does: keeps the log in segments that are only appended to (``log/``) and the applied state in an LMDB
environment (``state/``), synced, all of a commit or nothing; checks everything it reads; knows whose disk it is;
makes and takes in copies of a shard's state. What it never does: start threads, decide what is written or when, or go
on after a disk said no: it raises ``StorageError`` with a sentence that says what is wrong and what to do.

A data directory::

    lock            held by the one process that uses the directory; names its pid
    identity        cluster id, host id, incarnation, boot nonce (``identity``)
    log/            entries, hard states and compaction bases of all shards (``log``); whose it is
    state/          keys and machine states of all shards, the shard map (``state``)
    copies/         snapshots being sent or received; emptied at each start (``copies``)

``identity.create_data_directory`` and ``store.open_store`` are the doors. Threads: ``begin_commit`` and ``end_commit``
belong to the loop; ``commit_log``, ``reset_log`` and ``remove_log`` to the log's thread, while nothing that was begun
is under way; ``commit_state``, ``save_shard_map``, ``install_copy``, ``create_replica`` and ``remove_replica`` to the
state's; ``get``, ``scan``, ``read_entries`` and ``read_chunk`` may be called on any.
"""
