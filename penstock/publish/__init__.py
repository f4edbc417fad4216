"""The life of a batch on its way to one target: states, queue order, retries, the ledger."""
