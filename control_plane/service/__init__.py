"""The control plane's server: REST, pages and loops over the use cases."""
