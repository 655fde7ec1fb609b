"""Load tests of the service and its peers."""
