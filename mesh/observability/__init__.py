"""What is told of a workload's traffic, and to whom: traces, metrics, logs."""
