"""``python -m shardraft`` is the same as the command ``shardraft``."""

from shardraft.cli.main import main

if __name__ == "__main__":
    main()
