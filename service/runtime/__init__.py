"""The batching of jobs, the choice of the device, and the processes: a supervisor and its replicas."""
