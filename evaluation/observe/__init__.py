"""`make observe`: real services, a real Prometheus, clients with different habits, their bills.

`fleet` runs the services, `monitoring` Prometheus and its Pushgateway, `replay` the clients, `bill`
compares what was metered with the clients' ledgers, `checks` runs every rule and every panel, and
`page` draws the panels for people without Grafana.
"""
