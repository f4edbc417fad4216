"""Who may do what: roles, tenants, and tokens of which only a digest is kept."""
