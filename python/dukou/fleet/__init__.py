"""Beyond one machine: what runs a version elsewhere, replicas behind a gateway; one file a target.

Knows deployments, serving folders, servers and the programs of this machine; knows neither how a model
was made nor who asks for it: words of a command line become contents in `dukou.lifecycle.contents`.
"""
