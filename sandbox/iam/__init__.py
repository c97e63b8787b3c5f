"""Who asks AWS, and what they may: signatures, access keys, roles, policies."""
