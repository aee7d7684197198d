"""Services in a hostile world: a fuzzer, a hostile neighbour, replicas that die, hang and drain.

    python -m evaluation.hostile fuzz --requests 50000 --seed 1
    python -m evaluation.hostile neighbour --seconds 20
    python -m evaluation.hostile chaos --minutes 15

Each starts its own services on loopback, prints a table, and ends with status 1 where something is
not as `docs/security.md` promises.
"""
