"""Authentication and authorization of AWS calls: signatures, access keys, roles, policies."""
