"""``assent up``: the processes of one installation, started in order, watched, and stopped together.

The same processes stand in ``docker-compose.yml``; nothing here is needed there.
"""
