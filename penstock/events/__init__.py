"""Events: facts told to others, in a CloudEvents envelope, and facts that others tell."""
