"""Who is calling: API tokens, and tokens of an OIDC issuer."""
