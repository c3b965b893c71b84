"""How the tables came to be: Alembic's environment and one file per revision.

Run by ``exchange.store.migrate`` when a store is opened; never by hand.
"""
