"""Faults on purpose: the job on a cluster of several nodes while processes, nodes, the store and the disk fail."""
